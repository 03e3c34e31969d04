"""Carving from several silhouettes: they are filled, sections are round, thin parts stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.carve import carve
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.surface.topology import report

SIZE = 256
STEM = 0.02


def turned(radius: Float[np.ndarray, " N"], height: Float[np.ndarray, " N"], sides: int = 48) -> Mesh:
    """A closed surface of revolution about y, off the middle of the world."""
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.stack([np.sin(angle), np.zeros(sides), np.cos(angle)], -1)
    points = (ring[None] * radius[:, None, None] + np.array([0, 1, 0]) * height[:, None, None]).reshape(-1, 3)
    number = np.arange(len(radius) * sides).reshape(len(radius), sides)
    a, b, c, d = number[:-1], np.roll(number[:-1], -1, 1), number[1:], np.roll(number[1:], -1, 1)
    faces = np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])
    return Mesh(torch.from_numpy(points + np.array([0.1, 0, -0.05])).float(), torch.from_numpy(faces))


def spinning_top() -> Mesh:
    """Two cones, which taper from one end to the other, and a ball on a stem of 2.5 pixels."""
    profile = [(0.0, -0.85), (0.6, 0.0), (STEM, 0.5), (STEM, 0.7), (0.09, 0.74), (0.11, 0.8), (0.09, 0.86), (0.0, 0.9)]
    radius, height = np.array(profile).T
    fine = np.interp(np.linspace(0, len(profile) - 1, 200), np.arange(len(profile)), np.arange(len(profile)))
    return turned(*(np.interp(fine, np.arange(len(profile)), values) for values in (radius, height)))


def masks(mesh: Mesh) -> Float[Tensor, "4 S S"]:
    return rasterize(bundle_cameras().clip(mesh.vertices), mesh.faces, (SIZE, SIZE)).mask.float()


@pytest.mark.parametrize("given", [[0, 1, 2, 3], [0, 1]])
def test_the_silhouettes_are_filled_where_parts_taper_and_a_stem_stays(given: list[int]) -> None:
    mesh, cameras = spinning_top(), bundle_cameras()[given]
    seen = masks(mesh)[given]
    found = carve(seen, cameras)
    shown = masks(found)[given] > 0.5
    overlap = (shown & (seen > 0.5)).flatten(1).sum(1) / (shown | (seen > 0.5)).flatten(1).sum(1)
    assert bool((overlap > 0.96).all()), overlap
    about = report(found.vertices.double().numpy(), found.faces.numpy())
    assert about.watertight
    assert about.components == 1, "the ball is on its stem"


def test_sections_are_round() -> None:
    """Half way up the lower cone the hull of two views has a square section, a quarter larger than the circle."""
    found = carve(masks(spinning_top())[[0, 1]], bundle_cameras()[[0, 1]])
    ring = found.vertices[(found.vertices[:, 1] + 0.3).abs() < 0.03][:, [0, 2]] - torch.tensor([0.1, -0.05])
    true = 0.6 * (0.85 - 0.3) / 0.85
    away = ring.norm(dim=-1) / true
    assert len(ring) > 50
    assert float(away.mean()) == pytest.approx(1, abs=0.06)  # of the hull 1.12


def test_silhouettes_without_a_common_point_are_refused() -> None:
    far = torch.zeros(2, SIZE, SIZE)
    far[0, :40, 100:140] = far[1, -40:, 100:140] = 1
    with pytest.raises(BadInput, match="contradict"):
        carve(far, bundle_cameras()[[0, 1]])
