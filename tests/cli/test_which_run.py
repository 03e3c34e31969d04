"""Commands about a run: which one is meant, what is said where nothing changes, and commands that can be copied."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from kiss3d_cli.cli.invocation import as_typed_here
from kiss3d_cli.cli.status import check_line


@pytest.fixture
def runs(tmp_path, finished_run, monkeypatch) -> Path:
    """A working folder with two runs in outputs/: a finished one, and a newer one that can't be read."""
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    shutil.copytree(finished_run["run_dir"], outputs / "good")
    (outputs / "broken").mkdir()
    (outputs / "broken" / "run.json").write_text("{", encoding="utf-8")
    os.utime(outputs / "broken" / "run.json", (4e9, 4e9))
    return outputs


@pytest.mark.parametrize("arguments", [[], ["outputs"]])
def test_status_lists_the_runs_of_a_folder(kiss3d, runs, arguments):
    told = kiss3d("status", *arguments)
    assert told.code == 0, told.err
    first, broken, good = told.out.splitlines()
    assert first == "2 runs in outputs, the newest first"
    assert broken.split()[:3] == ["broken", "-", "unreadable"]
    assert good.split() == ["good", "draft", "done"]
    record = kiss3d("status", *arguments, "--json").json
    assert [run["state"] for run in record["runs"]] == ["unreadable", "done"]
    assert record["runs"][1]["mesh"] == str(runs / "good" / "refine" / "mesh.glb")


def test_other_commands_say_which_run_could_be_meant(kiss3d, runs):
    for command in (["resume", "outputs"], ["eval", "outputs", "--gt", __file__], ["export", "outputs", "--to", "web"]):
        told = kiss3d(*command)
        assert told.code == 2
        assert "it holds 2 runs, the newest first:\n  broken" in told.err
        assert f"try: kiss3d {command[0]} outputs/broken" in told.err


def test_resume_without_a_folder_takes_the_newest(kiss3d, runs):
    shutil.rmtree(runs / "broken")
    told = kiss3d("resume")
    assert told.code == 0, told.err
    assert "run folder: outputs/good" in told.err
    assert "nothing to do: everything is up to date" in told.err
    shutil.rmtree(runs)
    assert "there is no run in outputs/" in kiss3d("resume").err


def test_settings_that_change_nothing_are_told(kiss3d, runs):
    told = kiss3d("resume", runs / "good", "--set", "refine.steps=0", "--set", "bundle.steps=9")
    assert "note: refine.steps is 0 already" in told.err
    assert "note: bundle.steps changes nothing: no stage of this run reads it" in told.err
    again = kiss3d("resume", runs / "good", "--set", "bundle.steps=9")
    assert "note: bundle.steps is 9 already" in again.err


@pytest.mark.parametrize("wrong", [["--from", "nowhere"], ["--set", "refine.textures=true"]])
def test_a_mistyped_option_is_no_end_of_a_run(kiss3d, runs, wrong):
    report = runs / "good" / "report.html"
    report.unlink()
    told = kiss3d("resume", runs / "good", *wrong)
    assert told.code == 2
    assert "report:" not in told.err
    assert "then:" not in told.err
    assert not report.exists()
    assert json.loads(kiss3d("resume", runs / "good", *wrong, "--json").out)["error"]["exit_code"] == 2


def test_commands_are_told_as_this_one_was_typed(tmp_path, monkeypatch):
    text = "kiss3d resume a, pip install 'kiss3d[flux]'; /x/kiss3d run is a path, and kiss3d runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kiss3d"])
    assert as_typed_here(text) == text
    programs = tmp_path / "my env" / "bin"
    programs.mkdir(parents=True)
    for name in ("kiss3d", "pip"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(programs / "kiss3d")])
    told = as_typed_here(text)
    assert told.startswith("'my env/bin/kiss3d' resume a, 'my env/bin/pip' install 'kiss3d[flux]'; /x/kiss3d run")
    monkeypatch.setenv("PATH", str(programs))
    assert as_typed_here("kiss3d status") == "'my env/bin/kiss3d' status"  # looked up once


def test_a_program_on_the_path_is_called_by_its_name(tmp_path, monkeypatch):
    program = tmp_path / "kiss3d"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert as_typed_here("try: kiss3d status") == "try: kiss3d status"


def test_a_check_is_told_with_its_verdict_and_the_limits_that_it_misses():
    check = {
        "mask_iou": 0.9,
        "color_psnr": 30.0,
        "thin_kept": None,
        "pieces": 1,
        "mask_pieces": 1,
        "watertight": True,
        "self_intersections": 1,
        "ragged_edges": 7.0,
        "faces": 12000,
        "within_limits": False,
        "limits": {"mask_iou": 0.95, "color_psnr": 20.0, "thin_kept": 0.9, "ragged_edges": 5.0},
    }
    told = check_line(check)
    assert told.startswith("check below its limits, front against the picture: mask IoU 0.900 (at least 0.95 wanted)")
    assert "7.00 ragged edges per 1,000 (at most 5 wanted)" in told
    assert "colours 30.0 dB, 1 of 1 piece, watertight, 1 self-intersection," in told
    assert check_line({**check, "mask_iou": 0.96, "ragged_edges": 0, "within_limits": True}).startswith("check passed")
    assert check_line({key: value for key, value in check.items() if key != "limits"}).count("wanted") == 0
