"""The bench that writes the GPU's table, run on tiny weights, so that it does not fall over on its first real run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from bench import flux_gpu
from pictures import draw_figure


def test_the_bench_runs(
    tiny_flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(tiny_flux, tmp_path / "weights")
    picture = draw_figure(tmp_path / "figure.png")
    size = ["--device", "cpu", "--tile", "128", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["flux_gpu.py", "--root", str(root), "--picture", str(picture), *size])
    flux_gpu.main()
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 * 2
    assert len(table[0]) == len(table[1]) == len(table[-1]) == 9
    assert [row[1].strip() for row in table[2:]] == ["prompt", "bundle"] * 2
    assert float(table[-1][-2]) > 0
