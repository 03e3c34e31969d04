"""The pictures of an evaluation say what the numbers say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.evaluation.compare import Evaluation, evaluate
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.report import evaluation_pictures


def tensors(mesh: trimesh.Trimesh) -> Mesh:
    vertices = np.concatenate([mesh.vertices, [[np.nan, 0, 0]]])  # one vertex that no face uses
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(np.array(mesh.faces, np.int64)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_pictures, "SIZE", 64)


@pytest.fixture(scope="module")
def found() -> Evaluation:
    ball = trimesh.creation.icosphere(subdivisions=3)
    bump = ball.copy()
    bump.vertices[:, 0] = np.where(bump.vertices[:, 0] > 0.9, 1.3, bump.vertices[:, 0])
    return evaluate(tensors(bump), tensors(ball), points=20_000)


def test_all_four_are_written_and_the_same_every_time(found: Evaluation, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        files = evaluation_pictures.write_pictures(found, folder)
    names = ["error.ply", "error.png", "overlay.png", "precision_recall.png"]
    assert sorted(path.name for path in files) == names == sorted(path.name for path in first.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    for name in names[1:]:
        pixels = np.asarray(Image.open(first / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 30


def test_the_error_mesh_is_in_the_frame_given_and_bright_where_it_is_off(found: Evaluation, tmp_path: Path) -> None:
    evaluation_pictures.write_pictures(found, tmp_path)
    mesh = read_mesh(tmp_path / "error.ply", torch.float64)
    assert mesh.colors is not None
    off = mesh.vertices[:, 0] > 1.2
    assert 5 < int(off.sum()) < 100
    assert mesh.vertices[:, 0].max() == pytest.approx(1.3, abs=1e-6)
    brightness = mesh.colors.mean(1)
    assert brightness[off].min() > 0.7
    assert brightness[mesh.vertices[:, 0] < 0].max() < 0.4  # the distance between samples


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match="matplotlib") as caught:
        evaluation_pictures.check_matplotlib()
    assert "kiss3d[eval]" in str(caught.value.hint)
