"""Every mistake gets one clear message, the right exit code, no traceback, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import forks
from conftest import call
from kiss3d_cli.pipeline.lock import locked
from patience import PATIENCE
from pictures import SMALL, draw_figure


def _truncated(path: Path) -> None:
    draw_figure(path)
    path.write_bytes(path.read_bytes()[:999])


def _text(path: Path) -> None:
    path.write_text("this is no picture\n", encoding="utf-8")


def _noise_free(path: Path) -> None:
    Image.new("RGB", (128, 128), (200, 10, 10)).save(path)


def _transparent(path: Path) -> None:
    Image.new("RGBA", (128, 128), (9, 9, 9, 0)).save(path)


def _one_pixel(path: Path) -> None:
    Image.new("RGB", (1, 1)).save(path)


PICTURES = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "text": (_text, "not a picture"),
    "empty": (lambda path: path.touch(), "empty"),
    "truncated": (_truncated, "cut off"),
    "one pixel": (_one_pixel, "too small"),
    "transparent": (_transparent, "transparent"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_bad_pictures_are_refused_before_a_run_folder_is_made(kiss3d, tmp_path, kind):
    make, words = PICTURES[kind]
    picture = tmp_path / "picture.png"
    make(picture)
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "runs")
    assert answer.code == 2
    assert words in answer.err
    assert str(picture) in answer.err
    assert "  try: " in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_picture_without_an_object_names_its_stage_and_can_be_resumed(kiss3d, tmp_path):
    picture = tmp_path / "red.png"
    _noise_free(picture)
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "runs", "--json")
    assert answer.code == 2
    assert answer.json["error"]["exit_code"] == 2
    assert Path(answer.json["run_dir"]).is_dir()
    assert "kiss3d resume" in answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "12bg"], "there is no preset '12bg' (did you mean '12gb'?)"),
        (["--set", "refine.stepz=3", "--set", "seed=x"], "2 settings are wrong"),
        (["--set", "refine.steps"], "key=value"),
        (["--until", "colour"], "there is no stage 'colour'"),
        (["--config", "nowhere.yaml"], "no such file"),
        (["--seed", "-1"], "seed (--seed): -1 is not a whole number"),
        (["--bundle", "bundle.png"], "both a PICTURE and --bundle"),
        (["--gt", "nowhere.obj"], "nowhere.obj"),
        (["--set", "device.name=tpu"], "'tpu' is not a device"),
        (["--set", "multiview.method=none"], "can't end in a mesh"),
        (["--sed", "3"], "No such option"),
    ],
)
def test_bad_options(kiss3d, tmp_path, picture, options, words):
    preset = [] if "--preset" in options else ["--preset", "draft"]
    answer = kiss3d("run", picture, "--out", tmp_path / "runs", *preset, *options)
    assert answer.code == 2
    assert words in answer.err
    assert not (tmp_path / "runs").exists()


def test_no_picture_at_all(kiss3d):
    answer = kiss3d("run", "--preset", "draft")
    assert answer.code == 2
    assert "kiss3d run image.png" in answer.err


def test_a_bundle_of_the_wrong_shape(kiss3d, tmp_path):
    path = tmp_path / "bundle.png"
    Image.fromarray(np.zeros((256, 256, 3), np.uint8)).save(path)
    answer = kiss3d("run", "--bundle", path, "--preset", "draft", "--out", tmp_path / "runs")
    assert answer.code == 2
    assert "no grid of square views" in answer.err


def test_out_that_is_no_folder(kiss3d, tmp_path, picture):
    place = tmp_path / "file"
    place.write_text("")
    answer = kiss3d("run", picture, "--preset", "draft", "--out", place / "runs")
    assert answer.code == 2
    assert "no run folder can be made there" in answer.err


def test_a_device_that_is_not_there(kiss3d, tmp_path, picture, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path, "--set", "device.name=cuda")
    assert answer.code == 3
    assert "device.name=cpu" in answer.err


@pytest.mark.parametrize("command", ["resume", "status"])
@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 2, "not a run folder"),
        ("{", 5, "truncated"),
        ('{"schema_version": 99}', 5, "newer one"),
    ],
)
def test_run_folders_that_are_none(kiss3d, tmp_path, command, content, code, words):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    answer = kiss3d(command, tmp_path)
    assert answer.code == code
    assert words in answer.err


def test_resume_of_nothing(kiss3d, tmp_path):
    assert kiss3d("resume", tmp_path / "nothing").code == 2


def test_resume_from_an_unknown_stage(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("resume", copy, "--from", "colour")
    assert answer.code == 2
    assert "there is no stage 'colour'" in answer.err


def test_resume_of_a_run_in_use(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    with locked(copy):
        answer = kiss3d("resume", copy)
    assert answer.code == 6
    assert str(os.getpid()) in answer.err


def test_an_input_that_was_changed(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    (copy / "input.png").write_bytes(b"other")
    answer = kiss3d("resume", copy)
    assert answer.code == 5
    assert "input.png was changed" in answer.err


COMMAND = "from kiss3d_cli.cli.app import main; main()"


# what a signal does to a command is in test_streams.py, for each of them; here one goes through a real run
@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_signal_ends_the_run_with_130_and_resume_finishes_it(kiss3d, tmp_path, picture, name):
    import signal

    # so many steps that it is at work still, however late the signal comes
    options = [part for setting in (*SMALL[1:], "refine.steps=1000") for part in ("--set", setting)]
    process = forks.Popen(  # which ignores no signal, as a shell's background jobs would
        [sys.executable, "-c", COMMAND, "run", str(picture), "--preset", "draft", "--out", str(tmp_path), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not list(tmp_path.glob("*/preprocess")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    run_dir = next(tmp_path.glob("*/run.json")).parent
    assert f"kiss3d resume {run_dir}" in err
    answer = kiss3d("resume", run_dir, "--json", "--set", "refine.steps=0")
    assert answer.code == 0
    assert answer.json["stages"][0]["status"] == "skipped"
    assert Path(answer.json["mesh"]).is_file()


def test_a_full_disk(tmp_path, picture):
    """A real one: a file system of half a megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        done = forks.run(
            [sys.executable, "-c", COMMAND, "run", str(picture), "--preset", "draft", "--out", str(place)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3, done.stderr
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        for manifest in place.glob("*/*/manifest.json"):
            assert json.loads(manifest.read_text(encoding="utf-8"))["status"] == "complete"
    finally:
        subprocess.run(["umount", place], check=True)


def test_flux_on_metal_is_refused_before_any_work(tmp_path, picture, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    metal = ("--set", "device.name=mps", "--set", f"models.root={tmp_path / 'none'}")
    answer = call("run", picture, "--preset", "12gb", "--out", tmp_path / "runs", *metal)
    assert answer.code == 3
    assert "Flux can't run on Metal: torch has no fp8 there" in answer.err
    assert "bundle.method=reference" in answer.err
    assert not (tmp_path / "runs").exists()


def test_flux_without_a_gpu_offers_the_draft_before_any_work(tmp_path, picture, monkeypatch):
    """Also where its 17 GB are not there yet: nobody shall download them for nothing."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    weights = ("--set", f"models.root={tmp_path / 'none'}")
    answer = call("run", picture, "--preset", "12gb", "--out", tmp_path / "runs", *weights)
    assert answer.code == 3
    assert "Flux needs a GPU" in answer.err
    assert "--preset draft" in answer.err
    assert not (tmp_path / "runs").exists()
    dry = call("run", picture, "--preset", "12gb", *weights, "--dry-run")
    assert "missing: flux-dev" in dry.out
    assert "refused: bundle.method: Flux needs a GPU" in dry.out
    (told,) = [line for line in dry.out.splitlines() if line.startswith("bundle")]
    assert re.search(r"about \d+\.\d h without the GPU that it is made for", told)
    assert re.search(r"bundle (is|are) for a GPU of \d+ GiB or more: .* use --preset draft", dry.out)
    dry = call("run", picture, "--preset", "12gb", *weights, "--dry-run", "--json")
    assert "Flux needs a GPU" in dry.json["refused"]["cause"]
    answer = call("run", picture, "--preset", "12gb", "--out", tmp_path / "runs", *weights, "--set", "device.name=cpu")
    assert "these model weights are not on this machine" in answer.err
