"""The prompt and the bundle by Flux, as the pipeline runs them, on tiny weights in the published layouts."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, Missing, OutOfMemory
from kiss3d_cli.core.progress import Progress, Silent
from kiss3d_cli.image.png import read_png, write_png
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.bundle.flux_settings import Drawing
from kiss3d_cli.models.flux import pipeline as flux
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.pipeline.config import Layer, load
from support import methods as support

TILE = 64


@pytest.fixture(scope="module")
def weights(slim_flux: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: prepared weights are written beside the published ones. Tests that change these take one of their own."""
    return Path(shutil.copytree(slim_flux, tmp_path_factory.mktemp("flux") / "weights"))


class Runner:
    """Runs a method with the contract of the pipeline, in a folder of its own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        self.device = DeviceInfo("cpu", "CPU", "asked for")
        self.cancelled: threading.Event | None = None
        self.inputs: dict[str, Path] = {}

    def __call__(self, stage: str, name: str, values: dict[str, Any]) -> Context:
        method = support.method(stage, name)
        settings = {"bundle": {"method": name, **values}}
        shutil.rmtree(self.folder / stage, ignore_errors=True)
        takes = [name for name in method.takes if name in self.inputs]
        inputs = {name: self.inputs[name] for name in (*method.reads, *takes)}
        progress = Progress(stage, Silent(), self.cancelled)
        context = support.context(stage, self.folder, inputs, progress=progress)
        names = method.models(load(Layer("test", settings)).of(method))
        models = {n: found.path for n, found in store.find_all(names, self.root).items()}
        support.Call(method, context, settings, models, self.device)()
        for written in method.writes:
            self.inputs[f"{stage}/{written}"] = context.output / written
        return context


@pytest.fixture
def run(weights: Path, tmp_path: Path) -> Runner:
    return runner(tmp_path, weights)


@pytest.fixture(scope="module")
def words(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the prompt stage writes."""
    return runner(tmp_path_factory.mktemp("words"), weights)("prompt", "flux", {}).output


def runner(folder: Path, weights: Path) -> Runner:
    """On a caption, a picture and a reference bundle."""
    runner = Runner(folder / "run", weights)
    source = folder / "in"
    source.mkdir()
    rows, columns = np.mgrid[0:64, 0:64]
    picture = np.stack([rows * 4, columns * 4, (rows + columns) * 2], -1).astype(np.uint8)
    write_png(source / "image.png", picture)
    bundle = np.full((2 * TILE, 4 * TILE, 3), 255, np.uint8)
    bundle[15:45, 10:50] = (200, 60, 30)
    bundle[TILE + 15 : TILE + 45, 10:50] = (128, 128, 255)
    write_png(source / "bundle.png", bundle)
    (source / "caption.json").write_text(json.dumps({"caption": "a red box", "source": "given"}))
    runner.inputs = {
        "preprocess/image.png": source / "image.png",
        "reference/reference_bundle.png": source / "bundle.png",
        "caption/caption.json": source / "caption.json",
    }
    return runner


@pytest.fixture
def prompted(run: Runner, words: Path) -> Runner:
    """With what the encoders read before."""
    shutil.copytree(words, run.folder / "prompt")
    for name in support.method("prompt", "flux").writes:
        run.inputs[f"prompt/{name}"] = run.folder / "prompt" / name
    return run


def test_the_prompt_is_read_by_three_encoders(run: Runner) -> None:
    run("prompt", "flux", {})
    words = load_file(run.inputs["prompt/prompt.safetensors"])
    assert words["t5"].shape == (1, 512, 48)
    assert words["clip"].shape == (1, 64)
    redux = load_file(run.inputs["prompt/redux.safetensors"])["redux"]
    assert redux.shape == (1, 25, 48)
    before = run.inputs["prompt/prompt.safetensors"].read_bytes()
    run("prompt", "flux", {"redux": False})
    assert run.inputs["prompt/prompt.safetensors"].read_bytes() == before
    assert load_file(run.inputs["prompt/redux.safetensors"])["redux"].shape == (1, 0, 48)
    run.inputs["caption/caption.json"].write_text(json.dumps({"caption": "a blue box"}))
    run("prompt", "flux", {})
    other = load_file(run.inputs["prompt/prompt.safetensors"])
    assert not torch.equal(other["t5"], words["t5"])
    assert torch.equal(other["clip"], words["clip"]), "CLIP reads the same sentence always"


def test_what_a_lora_changes_of_clip_is_folded_into_the_prompt(run: Runner, slim_flux: Path, tmp_path: Path) -> None:
    """FluxGym trains CLIP too unless it is told not to."""
    run.root = Path(shutil.copytree(slim_flux, tmp_path / "weights"))
    lora = run.root / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors"

    def clip(**values: Any) -> torch.Tensor:
        run("prompt", "flux", {"redux": False, **values})
        return load_file(run.inputs["prompt/prompt.safetensors"])["clip"]

    layer = "lora_te1_text_model_encoder_layers_1_mlp_fc1"
    part = {f"{layer}.lora_down.weight": torch.ones(4, 64), f"{layer}.lora_up.weight": torch.eye(128, 4)}
    save_file({**load_file(lora), **part, f"{layer}.alpha": torch.tensor(4.0)}, lora)
    assert float((clip() - clip(lora_scale=0.0)).norm()) > 0.01
    settings = support.method("prompt", "flux").settings.keys("prompt").values()
    assert "bundle.lora_scale" in settings, "another scale is another prompt"


def test_a_long_caption_is_cut_and_the_user_is_told(run: Runner) -> None:
    run.inputs["caption/caption.json"].write_text(json.dumps({"caption": "word " * 200}))
    context = run("prompt", "flux", {"redux": False})
    assert "left out" in context.warnings[0]
    assert load_file(run.inputs["prompt/prompt.safetensors"])["t5"].shape == (1, 512, 48)


def test_streaming_and_threads_change_nothing(prompted: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"tile": TILE, "steps": 3}
    context = prompted("bundle", "flux", values)
    picture = read_png(context.output / "bundle.png")
    assert picture.shape == (2 * TILE, 4 * TILE, 3)
    assert context.facts["transformer_calls"] == 5
    assert context.facts["streamed_bytes"] == 0
    (prompted.folder / "bundle.scratch" / "latents.safetensors").unlink()
    # the VAE is no part of this: tiles would change pixels
    monkeypatch.setattr(flux.latent, "decode_bytes", lambda *_: 0)
    least = context.facts["smallest_memory_limit_bytes"]
    prompted.device = DeviceInfo("cpu", "CPU", "asked for", limit_bytes=least)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        again = prompted("bundle", "flux", values)
    finally:
        torch.set_num_threads(threads)
    assert again.facts["streamed_bytes"] > 0
    assert (again.output / "bundle.png").read_bytes() == (context.output / "bundle.png").read_bytes()


def test_controls_and_the_lora_matter_and_the_merge_is_read(prompted: Runner) -> None:
    base = {"tile": TILE, "steps": 1, "scheduler": "euler"}
    two = {"control_scales": [0.6, 0.5], "control_starts": [0.0, 0.0], "control_ends": [1.0, 1.0]}
    variants: dict[str, dict[str, Any]] = {
        "two controls": {"controls": ["tile", "canny"], **two},
        "tile": {"control_ends": [1.0]},
        "tile, no LoRA": {"control_ends": [1.0], "lora_scale": 0.0},
        "tile, merge": {"control_ends": [1.0], "model": "schnell"},
    }
    pictures = {}
    for name, change in variants.items():
        shutil.rmtree(prompted.folder / "bundle.scratch", ignore_errors=True)
        context = prompted("bundle", "flux", {**base, **change})
        pictures[name] = (context.output / "bundle.png").read_bytes()
    assert pictures["tile, merge"] == pictures["tile"], "the tiny merge holds the same transformer"
    assert len(set(pictures.values())) == 3


def test_the_redux_route_needs_no_reference(prompted: Runner) -> None:
    del prompted.inputs["reference/reference_bundle.png"]
    context = prompted("bundle", "redux", {"tile": TILE, "steps": 1})
    assert read_png(context.output / "bundle.png").shape == (2 * TILE, 4 * TILE, 3)


def test_the_redux_route_starts_from_black_or_a_template_as_published(prompted: Runner) -> None:
    template = np.full((2, TILE, 4, TILE, 3), 255, np.uint8)  # an object in every tile
    template[0, 15:45, :, 10:50] = (200, 60, 30)
    template[1, 15:45, :, 10:50] = (128, 128, 255)
    path = prompted.folder / "template.png"
    write_png(path, template.reshape(2 * TILE, 4 * TILE, 3))
    prompted.inputs["reference/reference_bundle.png"] = path
    start = {"tile": TILE, "strength": 0.0}

    def picture(method: str) -> np.ndarray:
        return read_png(prompted("bundle", method, start).output / "bundle.png").astype(float)

    through_the_vae, black = picture("flux"), picture("redux")
    prompted.inputs["template"] = path
    assert np.abs(picture("redux") - through_the_vae).mean() < 1
    assert np.abs(black - through_the_vae).mean() > 10
    draw = {"tile": TILE, "steps": 2, "scheduler": "euler"}
    drawn = {}
    kept = prompted.inputs["template"]
    for strength in (0.5, 1.0):
        for template in (True, False):
            shutil.rmtree(prompted.folder / "bundle.scratch", ignore_errors=True)
            prompted.inputs.pop("template", None)
            if template:
                prompted.inputs["template"] = kept
            context = prompted("bundle", "redux", {**draw, "strength": strength})
            drawn[strength, template] = (context.output / "bundle.png").read_bytes()
    assert drawn[0.5, True] != drawn[0.5, False]
    assert drawn[1.0, True] == drawn[1.0, False], "noise alone"
    assert Drawing(method="redux").redux_factor == 1.0
    assert Drawing(method="flux").redux_factor == 0.5
    assert Drawing(method="redux", redux_scale=0.3).redux_factor == 0.3


def test_strength_zero_returns_the_reference_through_the_vae(prompted: Runner) -> None:
    context = prompted("bundle", "flux", {"tile": TILE, "strength": 0.0})
    assert context.facts["steps"] == 0


def test_a_kill_in_the_middle_resumes_with_the_same_result(prompted: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = 4
    values = {"tile": TILE, "steps": 6, "scheduler": "euler", "strength": 1.0}
    whole = (prompted("bundle", "flux", values).output / "bundle.png").read_bytes()
    shutil.rmtree(prompted.folder / "bundle.scratch")
    prompted.cancelled = threading.Event()
    advance = flux.LatentFile.after_step

    def cancel(self: Any, done: int, latents: torch.Tensor, *, last: bool) -> None:
        advance(self, done, latents, last=last)
        if done == stop and prompted.cancelled is not None:
            prompted.cancelled.set()

    monkeypatch.setattr(flux.LatentFile, "after_step", cancel)
    with pytest.raises(Interrupted):
        prompted("bundle", "flux", values)
    prompted.cancelled = None
    context = prompted("bundle", "flux", values)
    assert (context.output / "bundle.png").read_bytes() == whole
    assert context.facts["resumed_at_step"] == stop, "what was saved was used"


def test_damaged_latents_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "latents.safetensors"
    latents = torch.randn(1, 4, 64)
    keep = flux.LatentFile(path, every=2)
    for done in range(1, 5):
        keep.after_step(done, latents * done, last=False)
    found = keep.read(6, latents.shape)
    assert found is not None
    assert found.done == 4
    assert torch.equal(found.latents, latents * 4)
    assert keep.read(3, latents.shape) is None, "of a longer schedule"
    assert keep.read(6, torch.Size([1, 5, 64])) is None, "of another size"
    whole = path.read_bytes()
    for damage in (b"", b"x" * 100, whole[:-7]):
        path.write_bytes(damage)
        assert keep.read(6, latents.shape) is None
    save_file({"done": torch.tensor(4), "latents": latents / 0}, path)
    assert keep.read(6, latents.shape) is None
    path.unlink()
    assert keep.read(6, latents.shape) is None


def test_out_of_memory_says_where_and_what_to_change_and_can_be_resumed(
    prompted: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"tile": TILE, "steps": 4, "scheduler": "euler", "strength": 1.0}
    kept = flux.denoise

    def fails(*arguments: Any, after_step: Any, **more: Any) -> Any:
        def once(index: int, latents: torch.Tensor) -> None:
            after_step(index, latents)
            if index == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        return kept(*arguments, after_step=once, **more)

    monkeypatch.setattr(flux, "denoise", fails)
    with pytest.raises(OutOfMemory, match="out of memory in step 4 of 4") as caught:
        prompted("bundle", "flux", values)
    assert caught.value.exit_code == 4
    assert "device.memory_limit" in str(caught.value.hint)
    monkeypatch.setattr(flux, "denoise", kept)
    context = prompted("bundle", "flux", values)
    assert context.facts["resumed_at_step"] == 2


def test_too_small_a_limit_names_the_smallest_that_works(prompted: Runner) -> None:
    prompted.device = DeviceInfo("cpu", "CPU", "asked for", limit_bytes=GIB // 4)
    with pytest.raises(OutOfMemory, match=r"can't work in 0\.25 GiB .* the smallest that works is"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 2})


def test_small_limits_decode_in_tiles(prompted: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prompted("bundle", "redux", {"tile": 2 * TILE, "steps": 1, "scheduler": "euler"})
    assert "vae_tile" not in whole.facts
    before = read_png(whole.output / "bundle.png").astype(float)
    monkeypatch.setattr(flux.latent, "TILE", 128)
    prompted.device = DeviceInfo("cpu", "CPU", "asked for", limit_bytes=int(0.5 * GIB))
    context = prompted("bundle", "redux", {"tile": 2 * TILE, "steps": 1, "scheduler": "euler"})
    assert context.facts["vae_tile"] == 128
    assert np.abs(read_png(context.output / "bundle.png") - before).mean() < 0.2 * before.std()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tile": 130}, "bundle.tile: flux needs a multiple of 8, for example 128, not 130"),
        (
            {"controls": ["pose"], "control_scales": [1], "control_starts": [0], "control_ends": [1]},
            "there is no control 'pose'",
        ),
    ],
)
def test_settings_that_flux_can_not_follow(prompted: Runner, values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1, **values})


def test_damaged_wide_and_foreign_weights(prompted: Runner, slim_flux: Path, tmp_path: Path) -> None:
    weights = prompted.root = Path(shutil.copytree(slim_flux, tmp_path / "weights"))
    path = weights / "Comfy-Org" / "flux1-dev" / "flux1-dev-fp8.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Missing, match="damaged or cut short"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1})
    path.write_bytes(whole)
    wide = {n: t.bfloat16() if n.startswith("model.") else t for n, t in load_file(path).items()}
    save_file(wide, path)
    with pytest.raises(BadInput, match=r"Flux is stored in bfloat16; only fp8 \(e4m3\) checkpoints are accepted"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1})
    path.write_bytes(whole)
    controlnet = weights / "InstantX" / "FLUX.1-dev-Controlnet-Union" / "diffusion_pytorch_model.safetensors"
    union = controlnet.read_bytes()
    save_file({n: t for n, t in load_file(controlnet).items() if "mode_embedder" not in n}, controlnet)
    context = prompted("bundle", "flux", {"tile": TILE, "steps": 1})
    assert "tile acts in no step" in context.warnings[0], "it ends at 0.65 of the only one"
    shutil.rmtree(prompted.folder / "bundle.scratch")
    with pytest.raises(Missing, match="does not hold ControlNet-Union") as caught:
        prompted("bundle", "flux", {"tile": TILE, "steps": 2})
    assert "kiss3d models pull flux-controlnet" in str(caught.value.hint)
    controlnet.write_bytes(union)
    lora = weights / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors"
    kept = load_file(lora)
    save_file({n: t[..., :-1].contiguous() if "down" in n else t for n, t in kept.items()}, lora)
    with pytest.raises(BadInput, match="Flux's transformer has"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1, "model": "schnell"})
    save_file({n: t / 0 if "up" in n else t for n, t in kept.items()}, lora)
    with pytest.raises(BadInput, match="not finite"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1})


def test_values_that_are_no_numbers_are_told_and_not_drawn(prompted: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = flux.denoise
    monkeypatch.setattr(flux, "denoise", lambda *arguments, **more: kept(*arguments, **more) / 0 * 0)
    with pytest.raises(Kiss3dError, match="values that are not numbers, in float32"):
        prompted("bundle", "flux", {"tile": TILE, "steps": 1})
