"""The prior as a method of the multiview stage, with the weights of the package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from cli.conftest import call
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.multiview.prior_shape import shape_of
from kiss3d_cli.models.prior.weights import PACKAGED, SHA256, load


@pytest.fixture(scope="module")
def vase(tmp_path_factory) -> Path:
    """A symmetric vase with an alpha channel; even sides, so that its mirror image is itself to the byte."""
    image = Image.new("RGBA", (256, 256), (255, 255, 255, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((70, 90, 185, 240), fill=(150, 60, 40, 255))
    pen.rectangle((105, 20, 150, 120), fill=(170, 80, 50, 255))
    pen.rectangle((90, 14, 165, 30), fill=(90, 40, 20, 255))
    path = tmp_path_factory.mktemp("vase") / "vase.png"
    image.save(path)
    return path


def test_a_run_with_the_prior_writes_what_inflation_writes(vase, tmp_path):
    answer = call(
        "run", vase, "--preset", "draft", "--until", "multiview", "--out", tmp_path, "--json",
        "--set", "multiview.method=prior", "--set", "multiview.tile=128",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"]) / "multiview"
    written = {path.name for path in folder.iterdir()}
    assert {"grid.png", "front.png", "right.png", "back.png", "left.png", "surface.ply"} <= written
    mesh = read_mesh(folder / "surface.ply")
    found = report(mesh.vertices.double().numpy(), mesh.faces.numpy())
    assert found.watertight
    assert found.components == 1
    front = read_png(folder / "front.png").astype(int)
    assert (front.min(-1) < 250).mean() > 0.2
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["facts"]
    assert facts["weights"] == SHA256.read_text(encoding="utf-8").split()[0]


def test_missing_weights_of_ones_own_are_said(vase, tmp_path):
    answer = call(
        "run", vase, "--preset", "draft", "--until", "multiview", "--out", tmp_path,
        "--set", "multiview.method=prior", "--set", f"multiview.weights={tmp_path / 'nowhere.safetensors'}",
    )  # fmt: skip
    assert answer.code == 3
    assert "nowhere.safetensors" in answer.err


def framed(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        picture = np.array(image.convert("RGBA"))
    half = picture[:, :128]
    return np.concatenate([half, half[:, ::-1]], 1)


def test_a_symmetric_picture_gives_a_symmetric_surface(vase):
    mesh = shape_of(load().network, framed(vase), bundle_cameras()[[0]]).mesh
    points = mesh.vertices.numpy()
    distance, _ = cKDTree(points).query(points * [-1, 1, 1])
    # beyond the outline the nearest sample counts, and of two as near the one on the left: a few vertices there differ
    assert distance.mean() < 5e-4
    assert distance.max() < 0.02


def test_the_packaged_prior_gives_the_same_bytes_on_one_thread_and_on_two(vase):
    before = torch.get_num_threads()
    hashes = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            mesh = shape_of(load().network, framed(vase), bundle_cameras()[[0]]).mesh
            hashes.append(hashlib.sha256(mesh.vertices.numpy().tobytes() + mesh.colors.numpy().tobytes()).hexdigest())
    finally:
        torch.set_num_threads(before)
    assert hashes[0] == hashes[1]


def test_the_packaged_weights_are_small():
    assert PACKAGED.stat().st_size < 25e6
