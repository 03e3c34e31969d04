"""Pictures of a sphere against its equation, and of colours against the vertices they came from."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals


def sphere(center: Tensor, radius: float) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=5)
    points = torch.tensor(ball.vertices, dtype=torch.float32) * radius + center
    return Mesh(points, torch.tensor(ball.faces, dtype=torch.int64))


def test_a_sphere_off_the_axis_shows_its_own_normals() -> None:
    center, radius = torch.tensor([0.2, -0.1, 0.3]), 0.6
    mesh = sphere(center, radius)
    cameras = bundle_cameras()
    rendered = render_normals(mesh, cameras, (96, 96), antialiased=False)
    # The ray through each pixel meets the sphere where a quadratic says so.
    tangent = 1 / cameras.projection[0, 0, 0]
    steps = ((torch.arange(96) + 0.5) / 48 - 1) * tangent
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    rays = torch.stack([x, y, -torch.ones_like(x)], -1)
    for view in range(4):
        offset = cameras.rotation[view] @ (center - cameras.centers[view])
        a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
        discriminant = b**2 - a * c
        hit = discriminant > 0
        disagree = hit != rendered.mask[view].bool()
        assert int(disagree.sum()) <= 6
        both = hit & rendered.mask[view].bool()
        depth = (b - discriminant.clamp_min(0).sqrt()) / a
        torch.testing.assert_close(rendered.depth[view][both], depth[both], atol=2e-2, rtol=0)
        normals = (rays * depth[..., None] - offset) / radius
        cosine = (normals * rendered.normals[view]).sum(-1)[both]
        assert float(cosine.min()) > 0.98
        assert float(cosine.median()) > 0.99999


def test_colours_on_a_background() -> None:
    mesh = sphere(torch.zeros(3), 0.7)
    colored = mesh.with_colors((mesh.vertices / 1.4 + 0.5).clamp(0, 1))
    rendered = render_colors(colored, bundle_cameras(), (64, 64), background=0.25)
    assert rendered.colors[:, 0, 0].tolist() == [[0.25] * 3] * 4
    # The front view sees +x on its right and +y on top; the right view sees +x everywhere and -z on its right.
    front, right = rendered.colors[0], rendered.colors[1]
    assert front[32, 44, 0] > 0.7 > 0.3 > front[32, 20, 0]
    assert front[22, 32, 1] > 0.6 > 0.4 > front[42, 32, 1]
    assert right[32, 32, 0] > 0.95
    assert right[32, 44, 2] < 0.3
    hard = render_colors(colored, bundle_cameras(), (64, 64), background=0.25, antialiased=False)
    assert set(hard.mask.unique().tolist()) == {0.0, 1.0}
    at_rim = (rendered.mask > 0.1) & (rendered.mask < 0.9)
    assert 4 * 40 < int(at_rim.sum()) < 4 * 160
    # The share of the pixel is the share of the colour.
    torch.testing.assert_close(hard.colors[rendered.mask == hard.mask], rendered.colors[rendered.mask == hard.mask])
    disc = torch.pi * (32 * 0.7 / (4.15**2 - 0.7**2) ** 0.5 / math.tan(math.radians(15))) ** 2
    torch.testing.assert_close(rendered.mask.sum((1, 2)), torch.full((4,), disc), rtol=2e-3, atol=0)
    with pytest.raises(BadInput, match="no vertex colours"):
        render_colors(mesh, bundle_cameras(), (8, 8))
