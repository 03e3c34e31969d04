"""Sharply bent edges eased: the ragged place becomes smooth, the rest of the surface stays bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.fairing import ease_bent_edges
from kiss3d_cli.geometry.surface.intersections import self_intersections


def ball_with_spikes(count: int, height: float) -> tuple[Mesh, list[int]]:
    """An ellipsoid of 1,280 faces; no two spikes are neighbours."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    ball.vertices = ball.vertices * [1.0, 0.7, 0.5]
    points = torch.from_numpy(np.array(ball.vertices)).float()
    spikes = [37 * (number + 1) for number in range(count)]
    points[spikes] *= 1 + height
    return Mesh(points, torch.from_numpy(np.array(ball.faces)).long()), spikes


def sharpest(mesh: Mesh) -> float:
    """Degrees, by trimesh."""
    surface = trimesh.Trimesh(mesh.vertices.double().numpy(), mesh.faces.numpy(), process=False)
    return float(np.rad2deg(surface.face_adjacency_angles.max()))


@pytest.mark.parametrize("height", [0.15, -0.15, 0.4])
def test_spikes_and_dents_go_and_the_rest_stays(height: float) -> None:
    mesh, spikes = ball_with_spikes(9, height)
    assert sharpest(mesh) > 75
    colored = mesh.with_colors(torch.rand(mesh.vertices.shape, generator=torch.Generator().manual_seed(0)))
    eased = ease_bent_edges(colored)
    assert sharpest(eased) <= 60
    assert torch.equal(eased.faces, mesh.faces)
    assert eased.colors is not None
    assert colored.colors is not None
    assert torch.equal(eased.colors, colored.colors)
    assert self_intersections(eased.vertices.double().numpy(), eased.faces.numpy()) == 0
    moved = (eased.vertices != mesh.vertices).any(1)
    assert bool(moved.any())
    # two rings around each spike are about 19 vertices
    assert int(moved.sum()) <= 19 * len(spikes)


def test_it_moves_no_more_than_it_must() -> None:
    """Of a roof bent by 70 degrees: 60 are reached, and not much less."""
    half = np.deg2rad(35)
    x, y = np.meshgrid(np.arange(9.0), np.arange(5.0))
    points = np.stack([(x - 4) * np.cos(half), y, -np.abs(x - 4) * np.sin(half)], -1).reshape(-1, 3)
    square = (np.arange(4)[:, None] * 9 + np.arange(8)).reshape(-1)
    faces = np.concatenate([square[:, None] + [0, 1, 10], square[:, None] + [0, 10, 9]])
    roof = Mesh(torch.from_numpy(points).float(), torch.from_numpy(faces))
    assert sharpest(roof) == pytest.approx(70, abs=0.01)
    eased = ease_bent_edges(roof)
    assert 45 < sharpest(eased) <= 60
    assert float((eased.vertices - roof.vertices).norm(dim=1).max()) < 0.3


def test_a_surface_without_sharp_bends_is_left_alone() -> None:
    mesh, _ = ball_with_spikes(0, 0.0)
    assert ease_bent_edges(mesh) is mesh


def test_a_smaller_mesh_is_eased_alike() -> None:
    """Lengths have no unit: at another scale the same happens."""
    mesh, _ = ball_with_spikes(4, 0.2)
    small = ease_bent_edges(mesh.with_vertices(mesh.vertices / 1024)).vertices * 1024
    assert torch.allclose(small, ease_bent_edges(mesh).vertices, atol=1e-5)


def test_faces_without_an_area_and_borders_do_no_harm() -> None:
    mesh, spikes = ball_with_spikes(3, 0.3)
    first, second, third = mesh.faces[5].tolist()
    points = mesh.vertices.clone()
    points[first] = points[second]
    eased = ease_bent_edges(Mesh(points, mesh.faces[:-40]))
    assert bool(eased.vertices.isfinite().all())
    assert third not in spikes
