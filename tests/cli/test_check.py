"""A run judges itself: its mesh against its own picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kiss3d_cli.core.manifest import read_manifest


@pytest.fixture
def run_dir(finished_run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run["run_dir"], tmp_path / "run"))


def test_the_numbers_are_in_the_manifest_the_json_the_status_and_the_report(finished_run, kiss3d) -> None:
    folder = Path(finished_run["run_dir"])
    check = finished_run["check"]
    assert check["mask_iou"] > 0.9
    assert check["watertight"]
    assert check["pieces"] == check["mask_pieces"] == 1
    assert read_manifest(folder / "check").facts["check"] == check
    assert json.loads((folder / "check" / "check.json").read_text(encoding="utf-8")) == check
    assert kiss3d("status", folder, "--json").json["check"] == check
    assert f"mask IoU {check['mask_iou']:.3f}" in kiss3d("status", folder).out
    assert "mask IoU of the front" in (folder / "report.html").read_text(encoding="utf-8")


def test_strict_makes_a_mesh_below_the_limits_exit_code_7(run_dir: Path, kiss3d, monkeypatch) -> None:
    from kiss3d_cli.evaluation import judgement

    monkeypatch.setitem(judgement.LIMITS, "mask_iou", 1.1)
    answer = kiss3d("resume", run_dir, "--from", "check")
    assert answer.code == 0
    assert "The mesh differs from its picture" in answer.err
    strict = kiss3d("resume", run_dir, "--strict", "--json")
    assert strict.code == 7
    assert strict.json["check"]["within_limits"] is False
    monkeypatch.setitem(judgement.LIMITS, "mask_iou", 0.1)
    monkeypatch.setitem(judgement.LIMITS, "color_psnr", 0.1)
    monkeypatch.setitem(judgement.LIMITS, "ragged_edges", 1000.0)
    assert kiss3d("resume", run_dir, "--from", "check", "--strict").code == 0
