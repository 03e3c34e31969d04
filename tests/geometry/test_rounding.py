"""Bent edges rounded off: a wire gets a rounder section, and stays closed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.intersections import bent_edges
from kiss3d_cli.geometry.surface.rounding import round_bent_edges
from kiss3d_cli.geometry.surface.topology import report


def rod(sides: int, rings: int, radius: float = 0.1) -> Mesh:
    """A closed rod along x, its section a regular polygon, its ends fans about a point."""
    angle = 2 * np.pi * np.arange(sides) / sides
    x = np.linspace(-1, 1, rings)
    ring = np.stack([np.zeros(sides), np.cos(angle), np.sin(angle)], -1) * radius
    points = [ring + np.array([at, 0, 0]) for at in x] + [np.array([[-1 - radius, 0, 0], [1 + radius, 0, 0]])]
    faces = []
    for i in range(rings - 1):
        for j in range(sides):
            a, b = i * sides + j, i * sides + (j + 1) % sides
            faces += [(a, a + sides, b), (b, a + sides, b + sides)]
    left, right, last = rings * sides, rings * sides + 1, (rings - 1) * sides
    for j in range(sides):
        k = (j + 1) % sides
        faces += [(left, j, k), (right, last + k, last + j)]
    faces = np.array(faces)[:, ::-1].copy()
    return Mesh(torch.from_numpy(np.concatenate(points)).float(), torch.from_numpy(faces))


def bent(mesh: Mesh) -> float:
    return bent_edges(mesh.vertices.double().numpy(), mesh.faces.numpy(), 60.0)


def test_a_wire_of_diamonds_becomes_one_of_octagons() -> None:
    before = rod(4, 12)
    after = round_bent_edges(before)
    assert bent(before) > 100
    assert bent(after) < bent(before) / 10
    found = report(after.vertices.double().numpy(), after.faces.numpy())
    assert found.watertight
    assert found.winding_consistent
    assert found.components == 1
    assert found.degenerate_faces == 0
    # the vertices that were there stay, the new ones between two corners of the section lie on the circle about it
    assert torch.equal(after.vertices[: len(before.vertices)], before.vertices)
    new = after.vertices[len(before.vertices) :].double()
    inner = new[new[:, 0].abs() < 0.75]
    section = inner[(torch.atan2(inner[:, 2], inner[:, 1]).rad2deg() % 90 - 45).abs() < 1]
    assert len(section) > 20
    assert section[:, 1:].norm(dim=-1).numpy() == pytest.approx(0.1, abs=0.01)


def test_what_is_smooth_enough_is_left_alone() -> None:
    mesh = rod(12, 6)
    inner = Mesh(mesh.vertices, mesh.faces)
    assert round_bent_edges(inner, degrees=80.0) is inner


@pytest.mark.parametrize("seed", range(3))
def test_any_split_fits_its_neighbours(seed: int) -> None:
    """Noise bends edges anywhere: faces with one, two and three split edges, and a surface that stays closed."""
    mesh = rod(7, 9, 0.4)
    noise = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.06, mesh.vertices.shape)).float()
    colors = torch.rand(len(mesh.vertices), 3, generator=torch.Generator().manual_seed(seed))
    rough = Mesh(mesh.vertices + noise, mesh.faces, colors)
    after = round_bent_edges(rough)
    assert len(after.faces) > len(rough.faces)
    found = report(after.vertices.double().numpy(), after.faces.numpy())
    assert found.watertight
    assert found.winding_consistent
    assert found.components == 1
    assert after.colors is not None
    assert len(after.colors) == len(after.vertices)
    assert torch.equal(after.colors[: len(colors)], colors)
