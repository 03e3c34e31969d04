"""`kiss3d run` of many pictures: together, once each, and none of them held up by another."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from bench.loads import counted_loads
from conftest import Answer, call
from inject_errors import SMALL as SMALLEST
from kill_batch import hashes, left_behind, run_batch
from many_pictures import draw_pictures
from pictures import draw_figure

TINY = (
    "device.name=cpu",
    "preprocess.size=64",
    "caption.max_tokens=16",
    "caption.beams=1",
    "multiview.tile=128",
    "multiview.steps=1",
    "bundle.tile=64",
    "bundle.steps=12",
    "reconstruct.resolution=32",
)
NETWORKS = {
    "IS-Net", "Florence-2", "Zero123++ text_encoder", "Zero123++ vision_encoder", "Zero123++ vae", "Zero123++ UNet",
    "reconstruction model", "T5", "CLIP", "Redux", "Flux VAE", "Flux ControlNet", "Flux transformer",
}  # fmt: skip


def options(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A figure; a folder with its mirror image and a copy of it; a list of a broken one and one that is not there."""
    place = tmp_path_factory.mktemp("pictures")
    figure = draw_figure(place / "figure.png")
    (place / "folder").mkdir()
    shutil.copyfile(figure, place / "folder" / "twin.png")
    with Image.open(figure) as opened:
        ImageOps.mirror(opened).save(place / "folder" / "mirrored.png")
    (place / "broken.png").write_bytes(figure.read_bytes()[:2000])
    (place / "list.txt").write_text("broken.png\n# not this one: another.png\n\nlost.png\n", encoding="utf-8")
    return place


def start(place: Path, *more: str) -> Answer:
    given = (place / "figure.png", place / "folder", place / "list.txt")
    return call("run", *given, "--preset", "draft", "--out", place / "out", *options(*SMALLEST), *more)


@pytest.fixture(scope="module")
def first(place: Path) -> Answer:
    return start(place)


def test_every_picture_becomes_a_mesh_once_and_failures_are_told_in_a_line(place: Path, first: Answer) -> None:
    assert first.code == 2, first.err
    reports = json.loads((place / "out" / "runs_report.json").read_text(encoding="utf-8"))["runs"]
    assert {entry["name"]: entry["status"] for entry in reports} == {
        "figure": "done",
        "mirrored": "done",
        "twin": "same",
        "broken": "failed",
        "lost": "failed",
    }
    assert len(list((place / "out").glob("*/refine/mesh.glb"))) == 2
    table = [line for line in first.out.splitlines() if line.startswith("|")][2:]
    assert len(table) == 5
    for name, words in (("broken", "damaged or cut off"), ("lost", "lost.png")):
        assert sum(name in line for line in first.err.splitlines()) == 1, first.err
        (row,) = (line for line in table if line.startswith(f"| {name} |"))
        assert words in row
        assert "(try: " in row
    assert any("twin" in line and "the same as figure" in line for line in table)
    assert "2 of 5 failed; the same command tries them again" in first.err
    page = (place / "out" / "index.html").read_text(encoding="utf-8")
    assert "figure-" in page
    assert "mirrored-" in page
    assert "<h1>5 runs in out</h1>" in page


def test_the_same_command_skips_what_is_done_and_tries_again_what_failed(place: Path, first: Answer) -> None:
    before = hashes(place / "out")
    with Image.open(place / "figure.png") as opened:
        opened.resize((300, 384)).save(place / "lost.png")
    (told,), (old,) = ((place / "out").glob(f"{name}-*/report.html") for name in ("figure", "mirrored"))
    made = told.stat().st_mtime_ns
    old.write_text("of a run that was not done yet", encoding="utf-8")
    os.utime(old, ns=(0, 0))
    again = start(place, "--json")
    assert again.code == 2
    assert told.stat().st_mtime_ns == made, "it is of what the run is now"
    assert "<html" in old.read_text(encoding="utf-8")
    assert {entry["name"]: entry["status"] for entry in again.json["runs"]} == {
        "figure": "skipped",
        "mirrored": "skipped",
        "twin": "same",
        "broken": "failed",
        "lost": "done",
    }
    after = hashes(place / "out")
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"lost"}


def test_a_batch_loads_each_network_once(tiny_models: Path, tmp_path: Path) -> None:
    """Opaque pictures, so that IS-Net is there too. The reconstruction model works before Flux and after it."""
    pictures = [draw_figure(tmp_path / "one.png", "RGB"), tmp_path / "two.png", tmp_path / "broken.png"]
    with Image.open(pictures[0]) as opened:
        ImageOps.mirror(opened).save(pictures[1])
    pictures[2].write_bytes(pictures[0].read_bytes()[:2000])
    root = shutil.copytree(tiny_models, tmp_path / "weights")
    settings = options(*TINY, f"models.root={root}")
    with counted_loads() as counts:
        answer = call(
            "run", *pictures, "--preset", "12gb", "--until", "reconstruct", "--out", tmp_path / "out", *settings
        )
    assert answer.code == 2, answer.err
    assert len(list((tmp_path / "out").glob("*/reconstruct/manifest.json"))) == 2, answer.err
    assert counts == dict.fromkeys(NETWORKS, 1)


def test_killed_and_typed_again_a_batch_comes_to_the_same(tmp_path: Path) -> None:
    """A few of the writes; `scripts/kill_batch.py` goes through all of them, and kills whole runs."""
    pictures = draw_pictures(tmp_path / "pictures", 2, side=64)
    settings = ["--preset", "draft", "--until", "preprocess", *options(*SMALLEST)]
    code, count = run_batch(pictures, tmp_path / "whole", settings)
    assert code == 0
    assert count > 60
    expected = hashes(tmp_path / "whole")
    assert len(expected) == 2
    for share in (0.15, 0.45, 0.6, 0.8):
        out = tmp_path / str(share)
        assert run_batch(pictures, out, settings, round(share * count))[0] == -9
        assert run_batch(pictures, out, settings)[0] == 0
        assert hashes(out) == expected, f"after a kill at {share:.0%} of the writes"
        assert left_behind(out) == []


def test_a_result_that_a_kill_left_beside_its_place_is_put_there(place: Path, first: Answer) -> None:
    """The last stage's result is whole in its partial folder: the run is done, but not all is where it belongs."""
    (folder,) = (path.parent for path in (place / "out").glob("figure-*/run.json"))
    (folder / "check").rename(folder / ".check.partial")
    start(place)
    assert (folder / "check" / "manifest.json").is_file()
    assert left_behind(place / "out") == []
