"""The whole neural pipeline, from a picture to a mesh, on tiny weights in the published layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from checkpoints.spheres import PATCHES, RADIUS, VIEW_PATCHES
from comfyui_folder import write_additions, write_parts
from conftest import Answer, call
from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.base import Context, Machine, Method, Opened
from kiss3d_cli.models.flux import pipeline, resident
from kiss3d_cli.models.runtime.offload import Residence, module_bytes
from kiss3d_cli.models.store.registry import lookup
from kiss3d_cli.pipeline import batch
from pictures import draw_figure
from sealing import edit
from simulated_gpu import SIMULATED, SimulatedGpu, simulated_gpu
from support.methods import integrate_small

pytestmark = pytest.mark.timeout(3600)  # whole runs, and the fixtures' before them: a busy machine takes its time
SMALL = (
    "device.name=cpu",
    "preprocess.size=128",
    "caption.max_tokens=8",
    "multiview.tile=128",
    "multiview.steps=2",
    "bundle.tile=64",
    "reconstruct.resolution=48",
    "refine.size=64",
    "refine.steps=1",
    "refine.integrate=false",
    "refine.target_faces=4000",
    "refine.texture=false",
)
"""The 12gb preset, small; its 14 Heun steps stay."""
SPHERES = ("bundle.tile=128", "refine.size=128", "refine.steps=3", "refine.integrate=true")
"""For a shape that is looked at: four views of a sphere."""
STAGES = ["preprocess", "caption", "multiview", "reference", "prompt", "bundle", "reconstruct", "refine"]
MISHAPS: dict[str, tuple[BaseException, int]] = {
    "preprocess": (RuntimeError("a fault of ours"), 1),
    "caption": (MemoryError(), 4),
    "multiview": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 4),
    "reference": (OSError(28, "No space left on device"), 3),
    "prompt": (KeyboardInterrupt(), 130),
    "bundle": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 4),
    "reconstruct": (ValueError("a fault of ours"), 1),
    "refine": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 4),
}


def options(root: Path, *more: str) -> list[str]:
    return [part for setting in (*SMALL, f"models.root={root}", *more) for part in ("--set", setting)]


def statuses(answer: Answer) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in answer.json["stages"]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """Of all runs that change none of them: Flux is prepared by the first of these, beside its files."""
    return Path(shutil.copytree(tiny_models, tmp_path_factory.mktemp("weights") / "root"))


@pytest.fixture(scope="module")
def mended_run(tmp_path_factory: pytest.TempPathFactory, picture: Path, weights: Path) -> Path:
    """A run in which every stage failed once; the bundle when all its steps were done."""
    out = tmp_path_factory.mktemp("neural")
    due = dict(MISHAPS)
    opened = batch.opened

    @contextmanager
    def failing(method: Method[Any], settings: Any, machine: Machine) -> Iterator[Opened]:
        def once(context: Context) -> None:
            stage = context.progress._stage
            late = stage in ("bundle", "preprocess")
            if stage not in due or late:
                function(context)
            if stage in due:
                raise due.pop(stage)[0]

        with opened(method, settings, machine) as function:
            yield once

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KISS3D_CACHE", str(out / "cache"))
        patch.setattr(batch, "opened", failing)
        answer = call("run", picture, "--preset", "12gb", "--out", out, *options(weights), "--json")
        (folder,) = (path.parent for path in out.glob("*/run.json"))
        for name in STAGES:
            assert answer.code == MISHAPS[name][1], (name, answer.err)
            assert "kiss3d resume" in answer.err
            answer = call("resume", folder, "--json")
        assert answer.code == 0, answer.err
        assert not due
        assert statuses(answer)["refine"] == "done"
    return Path(folder)


def test_every_stage_fails_once_and_the_run_ends_in_a_mesh(mended_run: Path) -> None:
    mesh = trimesh.load(mended_run / "refine" / "mesh.glb", force="mesh")
    assert len(mesh.faces) > 50
    assert np.isfinite(mesh.vertices).all()
    manifest = json.loads((mended_run / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["method"] == "flux"
    assert manifest["facts"]["transformer_calls"] == 27
    assert manifest["facts"]["resumed_at_step"] == 14, "the second attempt had all steps behind it"
    assert set(manifest["models"]) == {"flux-dev", "flux-controlnet", "bundle-lora"}
    prompt = json.loads((mended_run / "prompt" / "manifest.json").read_text(encoding="utf-8"))
    assert set(prompt["models"]) == {"flux-dev", "flux-redux", "bundle-lora", "t5-tokenizer", "clip-tokenizer"}


def test_the_bundle_keeps_to_the_reference(mended_run: Path) -> None:
    """The tiny weights are wired to follow the tile control: noise, schedule, control and VAE must all be right."""
    reference = read_png(mended_run / "reference" / "reference_bundle.png").astype(float)
    drawn = read_png(mended_run / "bundle" / "bundle.png").astype(float)
    means = [image.reshape(16, height, 32, height, 3).mean((1, 3)) for image, height in ((reference, 16), (drawn, 8))]
    assert np.abs(means[0] - means[1]).mean() < 4


def test_another_seed_loads_no_encoder(mended_run: Path, tmp_path: Path) -> None:
    from kiss3d_cli.pipeline.launch import plan_resume
    from kiss3d_cli.pipeline.run_folder import RunFolder

    folder = RunFolder(Path(shutil.copytree(mended_run, tmp_path / "run")))

    def change(record: dict) -> None:
        record["config"]["bundle"]["steps"] = 3
        record["config"]["seed"] = 7

    edit(folder.path / "run.json", change)
    plan, _models, _absent = plan_resume(folder, folder.record())
    actions = {step.stage.name: step.action.value for step in plan}
    assert actions["bundle"] == "run"
    assert actions["prompt"] in ("skip", "check")
    manifest = json.loads((mended_run / "prompt" / "manifest.json").read_text(encoding="utf-8"))
    assert "seed" not in manifest["settings"]


def test_the_plan_tells_a_model_that_is_new_from_one_that_changed(mended_run: Path, tmp_path: Path) -> None:
    from kiss3d_cli.pipeline.launch import plan_resume
    from kiss3d_cli.pipeline.run_folder import RunFolder

    folder = RunFolder(Path(shutil.copytree(mended_run, tmp_path / "run")))
    path = folder.path / "prompt" / "manifest.json"

    def change(manifest: dict) -> None:
        del manifest["models"]["flux-redux"]
        manifest["models"]["flux-dev"] = manifest["key"] = "0" * 64

    edit(path, change)
    reasons = {step.stage.name: step.reason for step in plan_resume(folder, folder.record())[0]}
    assert reasons["prompt"] == "the weights of flux-dev changed; flux-redux was not used before"


def test_the_multiview_route_needs_no_flux(mended_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mended_run, tmp_path / "run")
    answer = call("resume", copy, "--set", "bundle.method=reference", "--json")
    assert answer.code == 0, answer.err
    assert statuses(answer) == {
        **dict.fromkeys(["preprocess", "caption", "multiview", "reference"], "skipped"),
        **dict.fromkeys(["bundle", "reconstruct", "refine", "check"], "done"),
        **dict.fromkeys(["sides", "prompt", "place", "eval", "export"], "off"),
    }


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """Notes what the host waits for between the first step of Flux and the end of the last."""
    with simulated_gpu() as device:
        denoise = pipeline.denoise

        def watched(*arguments: Any, after_step: Any, **named: Any) -> torch.Tensor:
            schedule = arguments[2]

            def told(index: int, latents: torch.Tensor) -> None:
                last = index + 1 == schedule.steps
                device.watched = not last and device.watched
                after_step(index, latents)
                device.watched = not last

            return denoise(*arguments, after_step=told, **named)

        monkeypatch.setattr(pipeline, "denoise", watched)
        yield device


def hashes(folder: Path) -> dict[str, str]:
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/manifest.json"))]
    return {f"{m['stage']}/{file['path']}": file["sha256"] for m in manifests for file in m["artifacts"]}


@SIMULATED
def test_a_gpu_too_small_for_flux_comes_to_the_bits_of_the_cpu(
    gpu: SimulatedGpu, mended_run: Path, picture: Path, weights: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    for kind in ("half", "float16"):
        monkeypatch.setattr(DeviceInfo, kind, torch.float32)

    def confined(*arguments: Any, **named: Any) -> Residence:
        if named["what"] == "Flux":
            weights_bytes = sum(module_bytes(network) for network in arguments[0].values())
            named["limit"] = named["working"] + weights_bytes - 1
        return Residence(*arguments, **named)

    monkeypatch.setattr(resident, "Residence", confined)
    out = ("--out", tmp_path / "runs", *options(weights, "device.name=cuda:0"))
    answer = call("run", picture, "--preset", "12gb", *out, "--json")
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    assert hashes(folder) == hashes(mended_run)
    bundle = json.loads((folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert bundle["facts"]["streamed_bytes"] > 0
    assert bundle["peak_vram_bytes"] > 0
    assert gpu.waits == [], "nothing between two steps may wait"
    assert gpu.live == 0, "the networks are gone"


@SIMULATED
def test_running_out_of_video_memory_leaves_it_empty(
    gpu: SimulatedGpu, picture: Path, weights: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "runs", *options(weights, "device.name=cuda:0"))
    gpu.cap(2_000_000)  # more than the caption takes, less than the views do
    answer = call("run", picture, "--preset", "12gb", "--until", "multiview", *out)
    assert answer.code == 4, answer.err
    assert "stage multiview: out of memory" in answer.err
    assert gpu.live == 0
    gpu.cap(12 * GIB)
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/run.json"))
    answer = call("resume", folder, "--until", "multiview", "--json")
    assert statuses(answer)["multiview"] == "done"
    assert gpu.live == 0


@SIMULATED
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
def test_every_network_runs_in_half_precision(
    gpu: SimulatedGpu, weights: Path, tmp_path: Path, monkeypatch: Any, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(DeviceInfo, "half", dtype)
    opaque = draw_figure(tmp_path / "opaque.png", "RGB")
    until = ("--until", "bundle", *options(weights, "device.name=cuda:0", "multiview.steps=1", "bundle.steps=2"))
    answer = call("run", opaque, "--preset", "12gb", "--out", tmp_path / "runs", *until, "--json")
    assert answer.code == 0, answer.err
    assert [name for name, status in statuses(answer).items() if status == "done"] == STAGES[:6]
    assert gpu.waits == []


@pytest.fixture(scope="module")
def redux_run(tmp_path_factory: pytest.TempPathFactory, picture: Path, weights: Path) -> Path:
    out = tmp_path_factory.mktemp("redux")
    route = ("multiview.method=none", "reference.method=none", "bundle.method=redux", *SPHERES)
    with pytest.MonkeyPatch.context() as patch:
        integrate_small(patch)
        patch.setenv("KISS3D_CACHE", str(out / "cache"))
        answer = call("run", picture, "--preset", "12gb", "--out", out, *options(weights, *route), "--json")
    assert answer.code == 0, answer.err
    found = statuses(answer)
    assert found["multiview"] == found["reference"] == "off"
    assert {found[name] for name in ("prompt", "bundle", "reconstruct", "refine")} == {"done"}
    return Path(answer.json["run_dir"])


def test_the_redux_route_needs_no_views(redux_run: Path) -> None:
    manifest = json.loads((redux_run / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["facts"]["transformer_calls"] == 27
    assert set(manifest["models"]) == {"flux-dev", "redux-lora"}


def test_the_redux_route_draws_what_its_lora_knows_in_the_colours_that_redux_saw(redux_run: Path) -> None:
    """The tiny weights are wired to paint spheres: rotary embedding, prompt, Redux, LoRA and schedule must be right."""
    picture = Image.open(redux_run / "preprocess" / "image.png").resize((5, 5), Image.Resampling.BOX)
    patches = np.asarray(picture, float).reshape(PATCHES, 3)
    drawn = read_png(redux_run / "bundle" / "bundle.png").astype(float)
    views, normals = drawn.reshape(2, 16, 8, 4, 16, 8, 3).mean((2, 5)).transpose(0, 2, 1, 3, 4)
    assert np.ptp(patches[list(VIEW_PATCHES)], axis=0).min() > 40, "a picture whose patches differ"
    assert np.abs(views[:, 6:10, 6:10].mean((1, 2)) - patches[list(VIEW_PATCHES)]).max() < 12
    down, right = np.meshgrid(*[(np.arange(16) - 7.5) / (2 * RADIUS)] * 2, indexing="ij")
    distance = np.hypot(down, right)
    assert (views[:, distance > 1.15] > 240).all()
    assert (normals[:, distance > 1.15] > 240).all()
    sphere = np.stack([-right, -down, np.sqrt(np.maximum(1 - distance**2, 0))], -1)
    vectors = normals / 127.5 - 1
    cosines = (vectors * sphere).sum(-1) / np.linalg.norm(vectors, axis=-1)
    assert np.degrees(np.arccos(cosines[:, distance < 0.85])).max() < 20


def test_the_redux_route_ends_in_a_mesh(redux_run: Path) -> None:
    mesh = trimesh.load(redux_run / "refine" / "mesh.glb", force="mesh")
    assert mesh.is_watertight
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert 0.75 < np.median(radii) < 0.95, "the sphere that was painted: 3.1 of 4 tokens of 1.1"
    assert radii.max() < 1.15


def test_the_fast_preset_ends_in_a_mesh_from_files_of_comfyui(picture: Path, tiny_models: Path, tmp_path: Path) -> None:
    """The schnell merge, an expanded caption, and every file of Flux where ComfyUI's users have it."""
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    comfyui = tmp_path / "ComfyUI" / "models"
    dev, schnell = (lookup(name) for name in ("flux-dev", "flux-schnell"))
    write_parts(root / dev.repository / dev.files[0], comfyui)
    write_additions(root, comfyui)
    (merge,) = (root / schnell.repository).glob("*.safetensors")
    shutil.move(merge, comfyui / "unet" / merge.name)
    for name in (dev.repository, schnell.repository, "InstantX", "black-forest-labs"):  # the last: it needs no Redux
        shutil.rmtree(root / name)
    for lora in (root / "LTT" / "Kiss3DGen").glob("rgb_normal*"):
        lora.unlink()
    least = (
        "multiview.steps=1",
        "caption.expand=true",
        f"models.comfyui={comfyui}",
    )
    answer = call("run", picture, "--preset", "fast", "--out", tmp_path, *options(root, *least), "--json")
    assert answer.code == 0, answer.err
    assert [name for name, status in statuses(answer).items() if status == "done"] == [*STAGES, "check"]
    run = Path(answer.json["run_dir"])
    bundle = json.loads((run / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert set(bundle["models"]) == {"flux-schnell", "flux-dev", "flux-controlnet", "bundle-lora"}
    assert bundle["facts"]["transformer_calls"] == 6, "Euler looks once a step"
    caption = json.loads((run / "caption" / "caption.json").read_text(encoding="utf-8"))
    assert caption["caption"] != caption["unexpanded"]
    mesh = trimesh.load(run / "refine" / "mesh.glb", force="mesh")
    assert len(mesh.faces) > 50
    assert np.isfinite(mesh.vertices).all()


@pytest.mark.slow
def test_the_quality_preset_ends_in_a_mesh(weights: Path, tmp_path: Path) -> None:
    """The published steps of Flux after a cut-out by IS-Net and with an expanded caption, as in published runs."""
    opaque = draw_figure(tmp_path / "opaque.png", "RGB")
    least = ("multiview.steps=1", "caption.expand=true")
    answer = call("run", opaque, "--preset", "quality", "--out", tmp_path, *options(weights, *least), "--json")
    assert answer.code == 0, answer.err
    assert [name for name, status in statuses(answer).items() if status == "done"] == [*STAGES, "check"]
    run = Path(answer.json["run_dir"])
    manifests = {name: json.loads((run / name / "manifest.json").read_text(encoding="utf-8")) for name in STAGES}
    assert set(manifests["preprocess"]["models"]) == {"isnet"}
    assert set(manifests["caption"]["models"]) == {"florence2", "Qwen/Qwen2-7B-Instruct"}
    assert manifests["bundle"]["facts"]["transformer_calls"] == 37, "Heun looks twice in 18 of its 19 steps at 0.95"
    mesh = trimesh.load(run / "refine" / "mesh.glb", force="mesh")
    assert len(mesh.faces) > 50
    assert np.isfinite(mesh.vertices).all()


def test_the_bundle_route_begins_with_a_bundle(
    redux_run: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    integrate_small(monkeypatch)
    bundle = redux_run / "bundle" / "bundle.png"
    answer = call(
        "run", "--bundle", bundle, "--preset", "12gb", "--out", tmp_path, *options(weights, *SPHERES), "--json"
    )
    assert answer.code == 0, answer.err
    assert [name for name, status in statuses(answer).items() if status == "done"] == STAGES[5:]
    run = Path(answer.json["run_dir"])
    starts = [(folder / "reconstruct" / "mesh.ply").read_bytes() for folder in (redux_run, run)]
    assert starts[0] == starts[1], "it sees the same views as the run that drew the bundle"
    # normals are scaled to unit length before they are stored here, so that the refined meshes differ in details
    medians = [
        np.median(np.linalg.norm(trimesh.load(folder / "refine" / "mesh.glb", force="mesh").vertices, axis=1))
        for folder in (redux_run, run)
    ]
    assert abs(medians[0] - medians[1]) < 0.02


def test_without_redux_weights_the_way_without_them_is_offered(
    picture: Path, tiny_models: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    (
        root / "black-forest-labs" / "FLUX.1-Redux-dev" / "image_embedder" / "diffusion_pytorch_model.safetensors"
    ).unlink()
    answer = call("run", picture, "--preset", "12gb", "--out", tmp_path / "runs", *options(root))
    assert answer.code == 3
    assert "flux-redux" in answer.err
    assert "accept its terms at https://huggingface.co/black-forest-labs/FLUX.1-Redux-dev" in answer.err
    assert "bundle.redux=false" in answer.err
    assert not (tmp_path / "runs").exists(), "said before any work started"


def test_a_picture_that_is_cut_out_already_needs_no_matting_weights(
    tmp_path: Path, picture: Path, tiny_models: Path
) -> None:
    dry = ("--preset", "12gb", "--dry-run", "--json", "--set", f"models.root={tmp_path}")
    opaque, cut_out = (
        {entry["model"] for entry in call("run", path, *dry).json["missing"]}
        for path in (draw_figure(tmp_path / "opaque.png", "RGB"), picture)
    )
    assert opaque - cut_out == {"isnet"}
    run = ("run", picture, "--preset", "12gb", "--out", tmp_path, "--until", "preprocess", "--json")
    root = Path(shutil.copytree(tiny_models, tmp_path / "weights"))
    shutil.rmtree(root / "danielgatis")
    answer = call(*run, *options(root))
    assert answer.code == 0, answer.err
    manifest = json.loads(
        next(Path(answer.json["run_dir"]).glob("preprocess/manifest.json")).read_text(encoding="utf-8")
    )
    assert manifest["facts"]["background_removal"] == "alpha channel"
