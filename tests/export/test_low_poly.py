"""Fewer faces: the colours and the relief of all of them in textures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiss3d_cli.export.model import Model
from kiss3d_cli.export.simplify import simplified
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.render import render_colors, render_texture
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.texture.charts import unwrap
from kiss3d_cli.geometry.texture.tangents import tangents
from kiss3d_cli.geometry.texture.transfer import barycentric_of_nearest, texels_of, transfer
from shapes import ball, painted

VIEWS = orbit_cameras([0, 90, 180, 270, 40], [5, 5, 5, 5, 60])


@pytest.mark.parametrize("where", [(0, 0, 0), (40.0, -3.0, 7.0)])
def test_colours_stay_in_their_places_whatever_the_frame(where):
    fine = ball(rings=40, segments=80)
    colored = fine.with_colors(painted(fine.vertices))
    shift = torch.tensor(where, dtype=torch.float32)
    moved = Model(Mesh(fine.vertices * 0.01 + shift, fine.faces, colored.colors))
    low = simplified(moved, 600, 512)
    assert len(low.mesh.faces) <= 600
    assert low.texture is not None
    assert low.normal_map is not None
    back = low.mesh.with_vertices((low.mesh.vertices - shift) * 100)
    shown = render_texture(back, low.texture, VIEWS, (128, 128), antialiased=False)
    truth = render_colors(colored, VIEWS, (128, 128), antialiased=False)
    both = (shown.mask > 0) & (truth.mask > 0)
    error = (shown.colors - truth.colors)[both].square().mean()
    # float32 has three digits less for what is small and far away
    assert -10 * torch.log10(error) > (36 if where == (0, 0, 0) else 24)
    assert float(both.float().sum() / (truth.mask > 0).sum()) > 0.97


def test_the_normal_map_brings_the_relief_back():
    """Decoded as a renderer does, by an independent formula, it is the full sphere's normal at every texel."""
    full = ball(rings=40, segments=80)
    low = decimate(full, 400)
    atlas = unwrap(low, orbit_cameras([0, 90, 180, 270], 5), 256)
    baked = transfer(full, None, low, atlas, 256)
    assert baked.texture is None
    texels = texels_of(low, atlas, 256)
    value = baked.normal_map[torch.from_numpy(texels.inside)].double() / 255 * 2 - 1
    up, along = texels.normals.double(), texels.tangents[:, :3].double()
    along = torch.nn.functional.normalize(along - (along * up).sum(1, keepdim=True) * up, dim=1)
    across = torch.linalg.cross(up, along, dim=1) * texels.tangents[:, 3:].sign().double()
    decoded = torch.nn.functional.normalize(value[:, :1] * along + value[:, 1:2] * across + value[:, 2:] * up, dim=1)
    wanted = torch.nn.functional.normalize(texels.places.double(), dim=1)
    degrees = torch.rad2deg(torch.arccos((decoded * wanted).sum(1).clamp(-1, 1)))
    before = torch.rad2deg(torch.arccos((up * wanted).sum(1).clamp(-1, 1)))
    assert float(degrees.mean()) < 1.5
    assert float(degrees.mean()) < float(before.mean())


def test_the_two_sides_of_a_thin_sheet_keep_their_own_colours():
    half, thick = 1.0, 0.004
    grid = torch.linspace(-half, half, 21)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    front = torch.stack([x, y, torch.full_like(x, thick)], -1).reshape(-1, 3)
    number = torch.arange(441).reshape(21, 21)
    a, b, c, d = (part.reshape(-1) for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    sheet = Mesh(
        torch.cat([front, front * torch.tensor([1.0, 1, -1])]),
        torch.cat([faces, faces.flip(1) + 441]),
        torch.cat([torch.tensor([[1.0, 0, 0]]).expand(441, 3), torch.tensor([[0.0, 0, 1]]).expand(441, 3)]),
    )
    atlas = unwrap(sheet, orbit_cameras([0, 90, 180, 270], 0), 128)
    baked = transfer(sheet, None, Mesh(sheet.vertices, sheet.faces), atlas, 128)
    shown = render_texture(sheet, baked.texture, orbit_cameras([0, 180], 0), (64, 64), antialiased=False)
    seen = shown.mask > 0
    assert torch.equal(shown.colors[0][seen[0]].round().unique(dim=0), torch.tensor([[1.0, 0, 0]]))
    assert torch.equal(shown.colors[1][seen[1]].round().unique(dim=0), torch.tensor([[0.0, 0, 1]]))


def test_the_nearest_point_of_a_triangle_against_many_samples():
    generator = torch.Generator().manual_seed(5)
    triangles = torch.randn(40, 3, 3, generator=generator)
    points = 2 * torch.randn(40, 3, generator=generator)
    weights = barycentric_of_nearest(triangles, points)
    assert bool((weights >= -1e-6).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(40))
    found = ((triangles * weights[..., None]).sum(1) - points).norm(dim=1)
    many = torch.distributions.Dirichlet(torch.full((3,), 0.5)).sample((20_000,))
    sampled = (torch.einsum("sk,tkc->stc", many, triangles) - points).norm(dim=2).amin(0)
    assert bool((found <= sampled + 1e-5).all())
    assert bool((found >= sampled - 0.05).all())


def test_tangents_follow_the_picture():
    """A square in the xy plane whose picture is turned by 90 degrees: u runs up, v to the right."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    normals = np.tile([[0.0, 0, 1]], (4, 1))
    uv = np.stack([vertices[:, 1], vertices[:, 0]], 1)
    found = tangents(vertices, normals, uv, np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(found[:, :3], np.tile([[0.0, 1, 0]], (4, 1)), atol=1e-12)
    # cross(normal, tangent) is (-1, 0, 0), which is up in the picture: not mirrored
    np.testing.assert_allclose(found[:, 3], 1)
    mirrored = tangents(vertices, normals, uv * [1, -1] + [0, 1], np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(mirrored[:, 3], -1)


def test_a_mesh_without_colours_loses_faces_alone():
    low = simplified(Model(ball()), 300, 256)
    assert low.texture is None
    assert low.normal_map is None
    assert vertex_normals(low.mesh.vertices, low.mesh.faces).isfinite().all()
