"""From the picture to four views with the real stages and classes, on tiny random weights in the published layouts."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cli.conftest import call
from kiss3d_cli.image.png import read_png
from kiss3d_cli.models.florence2 import captioner
from kiss3d_cli.models.florence2.captioner import Caption

FAST = (
    "device.name=cpu",
    "preprocess.size=128",
    "caption.max_tokens=16",
    "multiview.tile=64",
    "multiview.steps=2",
    "bundle.method=reference",
)


@pytest.fixture(scope="session")
def figure(tmp_path_factory) -> Path:
    """A dark figure on white without an alpha channel, nearly mirror-symmetric, one arm raised."""
    image = Image.new("RGB", (300, 260), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((90, 60, 210, 220), fill=(40, 70, 160))
    pen.ellipse((95, 30, 135, 80), fill=(90, 30, 30))
    pen.ellipse((165, 30, 205, 80), fill=(90, 30, 30))
    pen.rectangle((200, 100, 225, 120), fill=(20, 90, 30))
    path = tmp_path_factory.mktemp("figure") / "figure.png"
    image.save(path)
    return path


def run(picture, root, out, *options, settings=(), until="multiview"):
    chosen = [part for setting in (*FAST, f"models.root={root}", *settings) for part in ("--set", setting)]
    return call("run", picture, "--preset", "12gb", "--until", until, "--out", out, *chosen, *options, "--json")


def manifest(answer, stage: str) -> dict:
    return json.loads((Path(answer.json["run_dir"]) / stage / "manifest.json").read_text(encoding="utf-8"))


def captioned(answer) -> dict:
    return json.loads((Path(answer.json["run_dir"]) / "caption" / "caption.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def neural_run(tmp_path_factory, figure, tiny_models):
    started = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KISS3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        answer = run(figure, tiny_models, tmp_path_factory.mktemp("runs"))
    assert answer.code == 0, answer.err
    return answer, time.process_time() - started


def test_until_multiview_in_time(neural_run):
    """Processor time, of all threads: what other programs do meanwhile does not count."""
    answer, seconds = neural_run
    assert seconds < 20
    methods = [(stage["name"], stage["method"], stage["status"]) for stage in answer.json["stages"][:5]]
    assert methods == [
        ("preprocess", "rembg", "done"),
        ("caption", "florence2", "done"),
        ("sides", "register", "off"),
        ("multiview", "zero123plus", "done"),
        ("reference", "lrm", "later"),
    ]


def test_the_artifacts_and_what_the_manifests_say(neural_run, figure):
    answer, _ = neural_run
    folder = Path(answer.json["run_dir"])
    grid = read_png(folder / "multiview" / "grid.png")
    assert grid.shape == (128, 128, 3)
    places = {"right": (0, 0), "back": (0, 1), "left": (1, 0), "front": (1, 1)}  # tiles: azimuth 90, 180, 270, 0
    for name, (row, column) in places.items():
        tile = grid[row * 64 : (row + 1) * 64, column * 64 : (column + 1) * 64]
        np.testing.assert_array_equal(read_png(folder / "multiview" / f"{name}.png"), tile)
        assert tile.std() > 1
    views = manifest(answer, "multiview")
    assert views["facts"]["seed"] == 42
    assert views["facts"]["scheduler"]["name"] == "EulerAncestralDiscreteScheduler"
    assert views["facts"]["scheduler"]["timestep_spacing"] == "trailing"
    assert views["facts"]["dtype"] == "float32"
    assert set(views["models"]) == {"zero123plus", "flexgen"}
    cut = manifest(answer, "preprocess")
    assert cut["facts"] == {"background_removal": "IS-Net", "doubtful": False}
    assert cut["warnings"] == []
    mask, image = read_png(folder / "preprocess" / "mask.png"), read_png(folder / "preprocess" / "image.png")
    assert 0.2 < (mask > 127).mean() < 0.7
    assert (image[mask == 0] > 200).mean() > 0.97
    words = captioned(answer)
    assert words["source"] == "florence2"
    assert words["caption"]
    assert manifest(answer, "caption")["facts"] == {"cached": False}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(neural_run, figure, tiny_models, tmp_path):
    def grid(answer):
        return (Path(answer.json["run_dir"]) / "multiview" / "grid.png").read_bytes()

    same = run(figure, tiny_models, tmp_path)
    other = run(figure, tiny_models, tmp_path, "--seed", 0)
    assert grid(same) == grid(neural_run[0])
    assert grid(other) != grid(same)
    assert captioned(other) == captioned(same)


def test_a_second_run_does_not_load_florence(figure, tiny_models, tmp_path, monkeypatch):
    first = caption_only(figure, tiny_models, tmp_path)
    monkeypatch.setattr(captioner, "Captioner", lambda *args, **options: pytest.fail("the model was loaded"))
    second = caption_only(figure, tiny_models, tmp_path)
    assert second.code == 0, second.err
    assert captioned(second) == captioned(first)
    assert manifest(second, "caption")["facts"] == {"cached": True}


def caption_only(figure, root, out, *options, settings=()):
    return run(figure, root, out, *options, settings=settings, until="caption")


def test_the_cache_asks_again_for_other_weights_settings_and_damage(figure, tiny_models, tmp_path, monkeypatch):
    asked = []

    def spoken(*args, **options):
        asked.append(options)
        return Caption(f"caption {len(asked)}", "beam")

    monkeypatch.setattr(captioner, "Captioner", lambda *args, **options: spoken)
    assert captioned(caption_only(figure, tiny_models, tmp_path))["caption"] == "caption 1"
    assert captioned(caption_only(figure, tiny_models, tmp_path))["caption"] == "caption 1"
    assert (
        captioned(caption_only(figure, tiny_models, tmp_path, settings=("caption.beams=2",)))["caption"] == "caption 2"
    )
    (kept, _) = sorted((tmp_path / "kiss3d-cache" / "captions").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for damage in ("{", "[]", '{"caption": "", "search": "beam"}', '{"caption": 3, "search": "beam"}'):
        kept.write_text(damage)
        count = len(asked)
        assert captioned(caption_only(figure, tiny_models, tmp_path))["caption"] == f"caption {count + 1}"
    copy = shutil.copytree(tiny_models, tmp_path / "models")
    weights = copy / "florence-community" / "Florence-2-large" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the content tells weights apart, not the time
    count = len(asked)
    assert captioned(caption_only(figure, copy, tmp_path))["caption"] == f"caption {count + 1}"


def test_an_unwritable_cache_is_only_a_warning(figure, tiny_models, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KISS3D_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(captioner, "Captioner", lambda *args, **options: lambda *_, **__: Caption("a cup", "beam"))
    answer = caption_only(figure, tiny_models, tmp_path)
    assert captioned(answer)["caption"] == "a cup"
    assert any("could not be kept" in warning for warning in manifest(answer, "caption")["warnings"])


def test_a_given_caption_needs_no_florence(figure, tiny_models, tmp_path):
    root = shutil.copytree(tiny_models, tmp_path / "models")
    shutil.rmtree(root / "florence-community")
    answer = caption_only(figure, root, tmp_path, "--caption", "null: a [cup], 3.0")
    assert answer.code == 0, answer.err
    assert captioned(answer) == {"caption": "null: a [cup], 3.0", "source": "given"}
    assert manifest(answer, "caption")["models"] == {}


def test_an_expanded_caption(figure, tiny_models, tmp_path):
    answer = caption_only(figure, tiny_models, tmp_path, "--caption", "a red cup", settings=("caption.expand=true",))
    assert answer.code == 0, answer.err
    record = captioned(answer)
    assert record["unexpanded"] == "a red cup"
    assert record["caption"] not in ("", "a red cup")
    assert set(manifest(answer, "caption")["models"]) == {"Qwen/Qwen2-7B-Instruct"}


@pytest.mark.parametrize(
    ("found", "source", "warning"),
    [
        (Caption("", "greedy"), "template", "found no words, with either search; the caption is a template"),
        (Caption("a cup", "greedy"), "florence2", "that of a greedy search"),
    ],
)
def test_a_caption_that_comes_back_empty(figure, tiny_models, tmp_path, monkeypatch, found, source, warning):
    monkeypatch.setattr(captioner, "Captioner", lambda *args, **options: lambda *_, **__: found)
    answer = caption_only(figure, tiny_models, tmp_path)
    assert answer.code == 0, answer.err
    record = captioned(answer)
    assert record["source"] == source
    assert len(record["caption"]) > 4
    (told,) = manifest(answer, "caption")["warnings"]
    assert warning in told
    kept = list((tmp_path / "kiss3d-cache" / "captions").glob("*.json"))
    assert len(kept) == (source == "florence2")


def test_the_doubts_are_in_the_manifest(tiny_models, tmp_path):
    """A small wedge that leaves the picture on the left."""
    pixels = np.full((200, 260, 3), 255, np.uint8)
    for row in range(80):
        pixels[40 + row, : 1 + row] = (20, 40, 60)
    Image.fromarray(pixels).save(tmp_path / "wedge.png")
    answer = caption_only(tmp_path / "wedge.png", tiny_models, tmp_path, "--caption", "a wedge")
    assert answer.code == 0, answer.err
    warnings = " ".join(manifest(answer, "preprocess")["warnings"])
    for part in ("touches the picture's border (left)", "only 8", "mirror-symmetric"):
        assert part in warnings


def test_a_picture_that_mattes_to_nothing(tiny_models, tmp_path):
    Image.new("RGB", (200, 200), (250, 252, 251)).save(tmp_path / "blank.png")
    answer = run(tmp_path / "blank.png", tiny_models, tmp_path)
    assert answer.code == 2
    assert "the foreground is empty" in answer.err
    assert "transparent background" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("danielgatis", ("isnet: isnet-general-use.onnx", "0.18 GB", "Apache-2.0")),
        (
            "florence-community/Florence-2-large/model.safetensors",
            ("(florence2): there is no such file", "kiss3d models pull florence2"),
        ),
        (
            "sudo-ai/zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors",
            ("(zero123plus): there is no such file", "kiss3d models pull zero123plus"),
        ),
        ("LTT/Kiss3DGen/flexgen.ckpt", ("flexgen: flexgen.ckpt of LTT/Kiss3DGen", "3.5 GB")),
    ],
)
def test_missing_weights_stop_the_run_before_it_starts(figure, tiny_models, tmp_path, gone, named):
    root = shutil.copytree(tiny_models, tmp_path / "models")
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    answer = run(figure, root, tmp_path / "runs")
    assert answer.code == 3
    for part in (*named, "kiss3d models pull", "--preset draft"):
        assert part in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_missing_package_stops_the_run_before_it_starts(figure, tiny_models, tmp_path, monkeypatch):
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "kiss3d_cli.core.packages.find_spec",
        lambda name: None if name in ("onnxruntime", "diffusers") else real(name),
    )
    answer = run(figure, tiny_models, tmp_path / "runs")
    assert answer.code == 3
    assert "onnxruntime, diffusers are not installed" in answer.err
    assert "pip install 'kiss3d[flux,matting]'" in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_damaged_checkpoint_is_named_with_the_way_to_go_on(figure, tiny_models, tmp_path):
    root = shutil.copytree(tiny_models, tmp_path / "models")
    checkpoint = root / "LTT" / "Kiss3DGen" / "flexgen.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    checkpoint.with_suffix(".safetensors").unlink(missing_ok=True)
    answer = run(figure, root, tmp_path / "runs", "--caption", "a figure")
    assert answer.code == 3
    assert str(checkpoint) in answer.err
    assert "damaged or cut short" in answer.err
    assert "kiss3d models pull flexgen" in answer.err
    assert "nothing was started" in answer.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ("multiview.tile=129", "needs a multiple of 32, for example 128, not 129"),
        ("caption.beams=0", "caption.beams"),
        ("multiview.steps=0", "multiview.steps"),
        ("caption.expand_model=nonsense", "there is no model 'nonsense'"),
    ],
)
def test_bad_settings(figure, tiny_models, tmp_path, setting, cause):
    answer = run(figure, tiny_models, tmp_path, "--caption", "a figure", settings=(setting, "caption.expand=true"))
    assert answer.code == 2
    assert cause in answer.err
    assert "Traceback" not in answer.err
