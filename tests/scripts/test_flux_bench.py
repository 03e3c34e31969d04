"""The bench that writes the GPU's table, run on tiny weights, so that it does not fall over on its first real run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench import flux_gpu
from pictures import QUICK, draw_figure
from simulated_gpu import SIMULATED


def table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str
) -> list[list[str]]:
    weights = shutil.copytree(root, tmp_path / "weights")
    picture = draw_figure(tmp_path / "figure.png")
    size = ["--device", device, "--tile", "64", "--steps", "2", *(f"--set={setting}" for setting in QUICK)]
    monkeypatch.setattr(sys, "argv", ["flux_gpu.py", "--root", str(weights), "--picture", str(picture), *size])
    flux_gpu.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(rows[0]) == len(rows[1]) == len(rows[-1]) == 9
    assert [row[1] for row in rows[2:]] == ["prompt", "bundle"] * 3
    return rows[2:]


def test_the_bench_runs(
    slim_flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = table(slim_flux, tmp_path, monkeypatch, capsys, "cpu")[-1]
    assert float(last[7]) > 0
    assert last[3] == ""


@SIMULATED
@pytest.mark.slow
def test_the_bench_counts_video_memory_without_a_gpu(
    slim_flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = table(slim_flux, tmp_path, monkeypatch, capsys, "simulated")[-1]
    assert float(last[3]) > 0
    assert last[7] == "", "times mean nothing"
