"""Charts by view: the front's lies on its picture, and what is hidden behind a part of the same chart is laid apart."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.texture.charts import Atlas, unwrap

CAMERAS = bundle_cameras()


def mesh_of(*parts: trimesh.Trimesh) -> Mesh:
    whole = trimesh.util.concatenate(list(parts))
    return Mesh(torch.from_numpy(np.array(whole.vertices)).float(), torch.from_numpy(np.array(whole.faces)).long())


def ball(at: tuple[float, float, float], radius: float) -> trimesh.Trimesh:
    sphere = trimesh.creation.icosphere(2, radius)
    sphere.apply_translation(at)
    return sphere


def covered_and_flat_area(atlas: Atlas, size: int = 1024) -> tuple[float, float]:
    """Share of the texture that the charts cover, and the sum of their faces' areas; the same if none overlap."""
    a, b, c = atlas.uv[atlas.corners].double().unbind(1)
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs() / 2
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros(len(atlas.uv), 1), torch.ones(len(atlas.uv), 1)], 1)[None]
    return float(rasterize(flat, atlas.corners, (size, size)).mask.float().mean()), float(areas.sum())


def test_the_front_is_one_chart_on_the_views_own_pixels() -> None:
    mesh = mesh_of(ball((0.1, 0.2, 0), 0.6))
    atlas = unwrap(mesh, CAMERAS, 1024)
    clip = CAMERAS.clip(mesh.vertices)[0]
    seen = (clip[:, :2] / clip[:, 3:] * torch.tensor([0.5, -0.5]) + 0.5) * 512
    facing = mesh.vertices[mesh.faces].mean(1) - torch.tensor([0.1, 0.2, 0.0])
    front = (facing[:, 2] > 0.6 * 0.6).nonzero()[:, 0]  # well inside the front's chart
    moved = atlas.uv[atlas.corners[front]] * 1024 - seen[mesh.faces[front]]
    torch.testing.assert_close(moved, moved[0, 0].expand_as(moved), atol=5e-3, rtol=0)
    assert float((moved[0, 0] - moved[0, 0].round()).abs().max()) < 2e-3
    assert atlas.charts <= 8


def test_what_stands_behind_is_laid_apart() -> None:
    """Three balls in a row to the front: the views see the middle one only behind the first."""
    mesh = mesh_of(*(ball((0.02 * i, 0.03 * i, 0.6 - 0.6 * i), 0.22) for i in range(3)))
    atlas = unwrap(mesh, CAMERAS, 1024)
    covered, flat = covered_and_flat_area(atlas)
    assert abs(covered - flat) < 4e-3 * flat
    assert float(atlas.uv.min()) >= 0
    assert float(atlas.uv.max()) <= 1


def test_a_folded_sheet_does_not_lie_on_itself() -> None:
    """A coil: every direction sees layers of it."""
    angle = np.linspace(0, 6 * np.pi, 100)
    radius = 0.15 + 0.03 * angle
    rim = np.stack([radius * np.cos(angle), np.zeros_like(angle), radius * np.sin(angle)], 1)
    half = np.array([0, 0.3, 0])
    vertices = np.concatenate([rim + half, rim - half])
    number = np.arange(99)
    faces = np.concatenate(
        [np.stack([number, number + 100, number + 1], 1), np.stack([number + 1, number + 100, number + 101], 1)]
    )
    mesh = Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(faces))
    covered, flat = covered_and_flat_area(unwrap(mesh, CAMERAS, 1024))
    assert abs(covered - flat) < 0.01 * flat


def test_every_face_keeps_its_corners_and_its_shape() -> None:
    mesh = mesh_of(ball((0, 0, 0), 0.5), ball((0.7, 0.1, 0.2), 0.15))
    atlas = unwrap(mesh, CAMERAS, 512)
    # a corner of the texture belongs to one vertex
    owner = torch.full((len(atlas.uv),), -1, dtype=torch.long)
    owner[atlas.corners.reshape(-1)] = mesh.faces.reshape(-1)
    assert torch.equal(owner[atlas.corners], mesh.faces)
    assert int(owner.min()) >= 0
    a, b, c = atlas.uv[atlas.corners].double().unbind(1)
    flat = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()
    assert float(flat.min()) > 0  # nothing is laid edge-on
