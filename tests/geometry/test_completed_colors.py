"""Colours that nobody has seen: continued over a surface, and taken from the other side of a symmetric object."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.geometry.texture.complete import complete
from kiss3d_cli.geometry.texture.diffuse import diffuse
from kiss3d_cli.geometry.texture.mirror import find_mirror, with_mirror_images
from kiss3d_cli.geometry.texture.project import Photographs, project_colors

RED, BLUE, GREY = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8]), torch.tensor([0.6, 0.6, 0.6])
MIDDLE = 0.03
"""x of the plane about which the body below is symmetric."""


def body() -> Mesh:
    """An egg that stands to the right of the origin, longer towards the viewer than away from it."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    points = torch.tensor(ball.vertices).float()
    stretch = torch.where(points[:, 2:] > 0, torch.tensor([0.5, 0.7, 0.6]), torch.tensor([0.5, 0.7, 0.4]))
    return Mesh(points * stretch + torch.tensor([MIDDLE, 0, 0]), torch.tensor(ball.faces, dtype=torch.int64))


def striped(points: Tensor) -> Tensor:
    """Bands that run down from front to back: grey, red and blue, the same left and right."""
    place = (points[:, 2] + 0.3 * points[:, 1] + 10) * 4 % 3
    return torch.stack([GREY, RED, BLUE])[place.long()]


def taken(mesh: Mesh, views: list[int]) -> Photographs:
    cameras = bundle_cameras()[views]
    shown = render_colors(mesh, cameras, (256, 256), antialiased=False)
    return Photographs(cameras, shown.colors, shown.mask > 0.5, torch.ones(len(views)))


def test_materials_meet_at_an_edge_where_colours_would_mix() -> None:
    mesh = body()
    top, bottom = mesh.vertices[:, 1] > 0.35, mesh.vertices[:, 1] < -0.35
    colors = torch.where(top[:, None], RED, torch.where(bottom[:, None], BLUE, 0.5))
    trust = (top | bottom).float()
    normals = vertex_normals(mesh.vertices, mesh.faces)
    found = complete(mesh.vertices, mesh.faces, colors, trust, normals)
    torch.testing.assert_close(found[trust > 0], colors[trust > 0])
    away = torch.minimum((found - RED).abs().amax(1), (found - BLUE).abs().amax(1))
    assert float(away.max()) < 0.01
    assert 0.4 < float(((found - RED).abs().amax(1) < 0.01).float().mean()) < 0.6
    mixed = diffuse(mesh.vertices, mesh.faces, colors, trust)
    assert float(torch.minimum((mixed - RED).abs().amax(1), (mixed - BLUE).abs().amax(1)).max()) > 0.3


def test_colours_stay_on_their_side_of_a_crease() -> None:
    # a box, one vertex for each corner of the grid: the lid is known in its middle, the walls at the bottom
    box = trimesh.creation.box((1, 1, 1))
    for _ in range(4):
        box = box.subdivide()
    points = torch.tensor(box.vertices).float()
    mesh = Mesh(points, torch.tensor(box.faces, dtype=torch.int64))
    lid = (points[:, 1] > 0.49) & (points[:, [0, 2]].abs().amax(1) < 0.2)
    wall = points[:, 1] < -0.1
    colors = torch.where(lid[:, None], RED, BLUE)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    found = complete(mesh.vertices, mesh.faces, colors, (lid | wall).float(), normals)
    red = (found - RED).abs().amax(1) < 0.01
    above = (points[:, 1] > 0.49) & (points[:, [0, 2]].abs().amax(1) < 0.49)
    sides = (points[:, 1] < 0.45) & ~lid
    assert bool(red[above].all())
    assert not bool(red[sides].any())


def test_nothing_or_everything_seen_changes_nothing() -> None:
    mesh = body()
    colors = torch.rand(len(mesh.vertices), 3)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    for trust in (0.0, 1.0):
        found = complete(mesh.vertices, mesh.faces, colors, torch.full((len(colors),), trust), normals)
        assert torch.equal(found, colors)


def test_the_plane_is_found_beside_the_middle() -> None:
    mesh = body()
    mirror = find_mirror(mesh.vertices, vertex_normals(mesh.vertices, mesh.faces))
    assert mirror is not None
    assert mirror.x == pytest.approx(MIDDLE, abs=0.01)
    assert float(mirror.match.mean()) > 0.95
    # leaning over, it has no such plane
    lean = torch.tensor([[0.7, 0.7, 0], [-0.7, 0.7, 0], [0, 0, 1.0]])
    leaning = mesh.with_vertices((mesh.vertices * torch.tensor([0.3, 1.4, 1])) @ lean.T)
    assert find_mirror(leaning.vertices, vertex_normals(leaning.vertices, leaning.faces)) is None


def test_a_side_without_a_picture_is_the_other_ones_mirror_image() -> None:
    mesh = body()
    mesh = mesh.with_colors(striped(mesh.vertices))
    assert mesh.colors is not None
    photographs = taken(mesh, [0, 1])
    completed = with_mirror_images(mesh, photographs)
    assert completed.images.shape[0] == 3
    left = (mesh.vertices[:, 0] < MIDDLE - 0.3) & (mesh.vertices[:, 2].abs() < 0.3)
    wrong = [
        float(((project_colors(mesh, given) - mesh.colors)[left].abs().amax(1) > 0.1).float().mean())
        for given in (photographs, completed)
    ]
    assert wrong[0] > 0.3
    assert wrong[1] < 0.1


def test_pictures_of_both_sides_need_no_mirror_images() -> None:
    mesh = body()
    mesh = mesh.with_colors(striped(mesh.vertices))
    for views in ([0], [0, 2], [0, 1, 2, 3]):
        photographs = taken(mesh, views)
        assert with_mirror_images(mesh, photographs) is photographs


def test_an_object_of_two_colours_is_no_mirror_image_of_itself() -> None:
    mesh = body()
    mesh = mesh.with_colors(torch.where(mesh.vertices[:, :1] < MIDDLE, BLUE, RED))
    photographs = taken(mesh, [0, 1])
    assert with_mirror_images(mesh, photographs) is photographs
    # nor where nothing is seen on both sides
    beside = replace(photographs, masks=photographs.masks & torch.tensor([False, True])[:, None, None])
    assert with_mirror_images(mesh, beside) is beside
