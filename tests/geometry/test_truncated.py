"""Truncated distances of closed, overlapping and open meshes against formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.hull import HullField
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.truncated import Grid, hull_distances, triangle_distance, truncated_distance
from wavemesh_objects import mesh_of

GRID = Grid(16)
TRUNCATION = 2 * GRID.cell


def test_a_turned_box_has_the_distances_of_its_formula():
    box = trimesh.creation.box((1.2, 0.8, 0.7))
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 0.5])
    box.apply_transform(turn)
    found = truncated_distance(mesh_of(box), GRID, TRUNCATION).numpy()
    away = np.abs(GRID.points().numpy() @ turn[:3, :3]) - np.array([0.6, 0.4, 0.35])
    exact = np.linalg.norm(np.maximum(away, 0), axis=-1) + np.minimum(away.max(-1), 0)
    wrong = (found < 0) != (exact < 0)
    assert wrong.sum() <= 0.03 * (exact < 0).sum()
    assert np.abs(exact[wrong]).max(initial=0) < 0.3 * GRID.cell
    right = ~wrong
    assert np.abs(found - np.clip(exact / TRUNCATION, -1, 1))[right].max() < 0.05


def test_overlapping_parts_of_either_winding_are_one_solid():
    left, right = (trimesh.creation.icosphere(2, 0.5) for _ in range(2))
    right.apply_translation((0.5, 0, 0))
    right.invert()
    whole = mesh_of(trimesh.util.concatenate([left, right]))
    for mesh in (whole, Mesh(whole.vertices, whole.faces[1:])):  # closed, and with a hole
        inside = truncated_distance(mesh, GRID, TRUNCATION) < 0
        points = GRID.points()
        exact = torch.minimum(points.norm(dim=-1), (points - torch.tensor([0.5, 0, 0])).norm(dim=-1)) < 0.5
        either = (inside | exact).sum()
        assert int((inside & exact).sum()) > 0.85 * int(either)
        assert bool(inside[9, 7, 7])  # where both overlap


def test_a_sheet_gets_the_thickness_that_the_grid_can_hold():
    corners = torch.tensor([[-0.8, 0.1, -0.8], [0.8, 0.1, -0.8], [0.8, 0.1, 0.8], [-0.8, 0.1, 0.8]])
    sheet = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    inside = truncated_distance(sheet, GRID, TRUNCATION) < 0
    assert inside.sum((0, 2)).nonzero()[:, 0].tolist() == [8]  # one layer of cells
    assert int(inside.sum()) >= 12 * 12


def test_distance_to_a_triangle_from_over_it_from_an_edge_and_from_a_corner():
    triangle = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]]).expand(3, 3, 3)
    points = torch.tensor([[0.2, 0.2, 0.5], [0.5, -0.3, 0.4], [2.0, 0, 0]])
    assert torch.allclose(triangle_distance(points, triangle), torch.tensor([0.5, 0.5, 1.0]), atol=1e-6)


def test_a_mesh_without_a_surface_is_refused():
    with pytest.raises(BadInput, match="no surface"):
        truncated_distance(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])), GRID, TRUNCATION)


def test_the_largest_of_the_views_is_the_hull():
    ball = mesh_of(trimesh.creation.icosphere(2, 0.6))
    cameras = bundle_cameras()
    masks = render_normals(ball, cameras, (64, 64), antialiased=False).mask
    each = hull_distances(masks, cameras, GRID, TRUNCATION)
    assert each.shape == (4, 16, 16, 16)
    whole = HullField.of(masks, cameras).at(GRID.points().reshape(-1, 3))
    assert torch.allclose(each.amax(0).flatten(), (whole / TRUNCATION).clamp(-1, 1), atol=1e-6)
