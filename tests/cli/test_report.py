from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import small_settings
from kiss3d_cli.pipeline.lock import locked


def test_a_run_ends_with_its_report(finished_run):
    page = (Path(finished_run["run_dir"]) / "report.html").read_text(encoding="utf-8")
    assert "viewer-canvas" in page
    assert page.endswith("</html>\n")


def test_report_makes_it_anew(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    answer = kiss3d("report", copy, "--json")
    assert answer.code == 0, answer.err
    assert Path(answer.json["report"]).read_bytes() == before
    assert kiss3d("report", copy).out.strip().endswith("report.html")


def test_open_shows_it(kiss3d, finished_run, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", lambda url: opened.append(url) or 0)
    assert kiss3d("report", finished_run["run_dir"], "--open").code == 0
    assert opened == [(Path(finished_run["run_dir"]) / "report.html").resolve().as_uri()]
    monkeypatch.setattr("typer.launch", lambda url: 1)
    assert "open the file yourself" in kiss3d("report", finished_run["run_dir"], "--open").err


def test_without_a_folder_it_is_the_newest_run(kiss3d, tmp_path, finished_run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = kiss3d("report")
    assert answer.code == 2
    assert "no run in outputs/" in answer.err
    shutil.copytree(finished_run["run_dir"], tmp_path / "outputs" / "run")
    assert kiss3d("report").out.strip() == "outputs/run/report.html"


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_what_is_no_run_folder(kiss3d, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    answer = kiss3d("report", tmp_path / name, "--json")
    assert answer.code == 2
    assert answer.json["error"]["hint"]


def test_a_failed_run_ends_with_a_report_too(kiss3d, tmp_path, finished_run, monkeypatch):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")

    def broken(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr("kiss3d_cli.methods.refine.isomer.Isomer.work", broken)
    answer = kiss3d("resume", copy, "--from", "refine")
    assert answer.code == 1
    assert "ValueError: no such thing" in (copy / "report.html").read_text(encoding="utf-8")
    assert "report: " in answer.err


def test_a_report_that_fails_is_a_note(kiss3d, tmp_path, picture, monkeypatch):
    def broken(_folder):
        raise ZeroDivisionError("a fault in the report")

    monkeypatch.setattr("kiss3d_cli.report.run_report.write_report", broken)
    answer = kiss3d(
        "run", picture, "--preset", "draft", "--out", tmp_path, *small_settings(), "--until", "preprocess", "--json"
    )
    assert answer.code == 0
    assert json.loads(answer.out)["run_dir"]
    assert "the report could not be made (ZeroDivisionError: a fault in the report)" in answer.err


def test_a_run_in_use_is_left_alone(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    (copy / "report.html").unlink()
    with locked(copy):
        assert kiss3d("resume", copy).code == 6
    assert not (copy / "report.html").exists()


def test_a_folder_of_runs_has_one_page(kiss3d, tmp_path, finished_run):
    shutil.copytree(finished_run["run_dir"], tmp_path / "runs" / "one")
    answer = kiss3d("report", tmp_path / "runs", "--json")
    assert Path(answer.json["report"]) == tmp_path / "runs" / "index.html"
    assert kiss3d("report", tmp_path / "runs", "--turntable").code == 2


def test_the_turntable_is_beside_the_report(kiss3d, tmp_path, finished_run, monkeypatch):
    pytest.importorskip("imageio")
    monkeypatch.setattr("kiss3d_cli.report.turntable.turn", lambda *_rest: iter([np.zeros((16, 16, 3), np.uint8)] * 2))
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("report", copy, "--gif", "--json")
    assert answer.code == 0, answer.err
    assert set(answer.json) == {"turntable", "report"}
    assert Path(answer.json["turntable"]).read_bytes()[:3] == b"GIF"
