"""Colours and textures from pictures of two spheres that are drawn by their equations, not by the rasteriser."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.render import render_texture
from kiss3d_cli.geometry.texture.bake import bake
from kiss3d_cli.geometry.texture.charts import Atlas, unwrap
from kiss3d_cli.geometry.texture.project import (
    MARGIN,
    RESOLUTION,
    Photographs,
    Projector,
    _margins,
    project_colors,
)

BALLS = ((torch.tensor([0.0, -0.1, -0.3]), 0.6), (torch.tensor([0.25, 0.2, 0.65]), 0.22))


def paint(points: Tensor, ball: Tensor) -> Tensor:
    """The large ball is blue and green in waves, the small one red."""
    wave = 0.5 + 0.25 * torch.sin(4 * points)
    large = torch.stack([0 * wave[..., 0], wave[..., 1], 0.5 + wave[..., 0] / 2], -1)
    return torch.where(ball[..., None] == 0, large, torch.tensor([0.9, 0.1, 0.1]))


def mesh() -> Mesh:
    parts = [(trimesh.creation.icosphere(subdivisions=4), *ball) for ball in BALLS]
    vertices = torch.cat([torch.tensor(part.vertices).float() * radius + center for part, center, radius in parts])
    first = torch.tensor(parts[0][0].faces, dtype=torch.int64)
    return Mesh(vertices, torch.cat([first, first + len(parts[0][0].vertices)]))


def photographs(side: int = 256) -> Photographs:
    cameras = bundle_cameras()
    steps = ((torch.arange(side) + 0.5) * 2 / side - 1) * math.tan(math.radians(15))
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    rays = torch.stack([x, y, -torch.ones_like(x)], -1)
    images, masks = [], []
    for rotation, eye in zip(cameras.rotation, cameras.centers, strict=True):
        way = torch.einsum("hwi,ij->hwj", rays, rotation)
        nearest = torch.full((side, side), torch.inf)
        which = torch.full((side, side), -1)
        for number, (center, radius) in enumerate(BALLS):
            a, b, c = (way**2).sum(-1), way @ (center - eye), (center - eye) @ (center - eye) - radius**2
            root = b**2 - a * c
            distance = torch.where(root > 0, (b - root.clamp_min(0).sqrt()) / a, torch.inf)
            which = torch.where(distance < nearest, number, which)
            nearest = torch.minimum(distance, nearest)
        mask = which >= 0
        points = eye + way * torch.where(mask, nearest, 0)[..., None]
        images.append(torch.where(mask[..., None], paint(points, which), 1.0))
        masks.append(mask)
    return Photographs(cameras, torch.stack(images), torch.stack(masks), torch.tensor([1, 0.5, 1, 0.5]))


def ball_of(count: int) -> Tensor:
    return (torch.arange(count) >= count // 2).long()


def test_seen_vertices_get_the_colour_of_their_place_and_hidden_ones_none_of_their_neighbours() -> None:
    shape, taken = mesh(), photographs()
    normals = vertex_normals(shape.vertices, shape.faces)
    sighting = Projector(shape, taken).look(shape.vertices, normals)
    wanted = paint(shape.vertices, ball_of(len(shape.vertices)))
    sure = sighting.trust == 1
    assert float(sure.float().mean()) > 0.6
    assert float((sighting.colors - wanted)[sure].abs().max()) < 0.06
    # Nobody sees the poles, and the small ball hides a part of the large one from the front.
    assert float(sighting.trust[int(shape.vertices[:, 1].argmin())]) == 0
    colors = project_colors(shape, taken)
    torch.testing.assert_close(colors[sure], sighting.colors[sure])
    assert float((colors - wanted)[: len(colors) // 2, 0].abs().max()) < 0.02  # no red on the large ball
    assert float((colors - wanted).abs().mean()) < 0.02


def test_a_hidden_ball_is_not_seen_through_the_front_one() -> None:
    # From the front alone, with the small ball straight behind the large one.
    shape = mesh()
    half = len(shape.vertices) // 2
    vertices = shape.vertices.clone()
    vertices[half:] += torch.tensor([0.0, -0.1, -1.3]) - BALLS[1][0]
    moved = shape.with_vertices(vertices)
    taken = photographs()
    front = Photographs(taken.cameras[[0]], taken.images[:1], taken.masks[:1], taken.weights[:1])
    sighting = Projector(moved, front).look(vertices, vertex_normals(vertices, moved.faces))
    assert float(sighting.weight[half:].max()) == 0
    assert float(sighting.weight[:half].max()) > 0.9


def test_a_view_of_weight_zero_says_nothing() -> None:
    shape, taken = mesh(), photographs()
    broken = taken.images.clone()
    broken[2] = 0
    quiet = Photographs(taken.cameras, broken, taken.masks, torch.tensor([1.0, 1, 0, 1]))
    honest = Photographs(taken.cameras[[0, 1, 3]], taken.images[[0, 1, 3]], taken.masks[[0, 1, 3]], torch.ones(3))
    torch.testing.assert_close(project_colors(shape, quiet), project_colors(shape, honest))


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return unwrap(mesh(), photographs().cameras, 512)


def test_the_margin_is_that_of_exact_distances() -> None:
    """Two runs differed in their last bits: OpenCV's roots depend on where memory happens to lie."""
    rows, columns = np.indices((RESOLUTION, RESOLUTION)) - RESOLUTION // 2
    mask = np.hypot(1.3 * rows, columns) < 300
    depth = torch.where(torch.from_numpy(mask), 4.0, torch.inf)[None]
    one = torch.ones(1)
    photographs = Photographs(bundle_cameras()[[0]], one.expand(1, *mask.shape, 3), torch.from_numpy(mask)[None], one)
    near, far = MARGIN
    distance = ndimage.distance_transform_edt(ndimage.binary_erosion(mask, np.ones((3, 3)))).astype(np.float32)
    exact = torch.from_numpy(((distance - near) / (far - near)).clip(0, 1))
    assert torch.equal(_margins(depth, photographs)[0], exact)


def test_charts_do_not_overlap_and_lie_in_the_picture(atlas: Atlas) -> None:
    assert atlas.corners.shape == mesh().faces.shape
    assert 0 <= float(atlas.uv.min()) <= float(atlas.uv.max()) <= 1
    a, b, c = atlas.uv[atlas.corners].double().unbind(1)
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs() / 2
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros(len(atlas.uv), 1), torch.ones(len(atlas.uv), 1)], 1)[None]
    covered = rasterize(flat, atlas.corners, (2048, 2048)).mask.float().mean()
    # Overlapping charts would cover less than the sum of their faces.
    assert float(covered) == pytest.approx(float(areas.sum()), rel=2e-3)


def test_the_texture_shows_the_pictures_again(atlas: Atlas, tmp_path: Path) -> None:
    shape, taken = mesh(), photographs()
    texture = bake(shape, taken, atlas, 512)
    again = render_texture(shape, texture, taken.cameras, (256, 256), antialiased=False)
    both = again.mask.bool() & taken.masks
    error = (again.colors - taken.images)[both].square().mean()
    assert -10 * math.log10(float(error)) > 33
    # Texels outside the charts repeat their neighbours: none is left black.
    assert bool((texture.image.amax(-1) > 30).all())
    [file] = write_mesh(tmp_path / "mesh.glb", shape, texture)
    assert read_mesh(file).faces.shape == shape.faces.shape


def test_a_face_smaller_than_a_texel_has_its_own_colour(atlas: Atlas) -> None:
    """A red face as a chart of its own, a fifth of a texel, between texels that nothing covers and nearer to blue."""
    shape, taken, side = mesh(), photographs(64), 128
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros(len(atlas.uv), 1), torch.ones(len(atlas.uv), 1)], 1)
    flat[:, 1] *= -1
    covered = rasterize(flat[None], atlas.corners, (side, side)).mask[0].float()
    free = torch.nn.functional.max_pool2d(covered[None], 5, 1, 2)[0] == 0
    row, column = free[2:-2, 2:-2].nonzero()[0] + 2
    middle = torch.tensor([float(column) + 1, float(row) + 1])
    tiny = (middle + 0.1 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])) / side
    red = shape.vertices[shape.faces].mean(1)[:, 2].argmax()  # the nearest to the front camera, on the small ball
    corners = atlas.corners.clone()
    corners[red] = len(atlas.uv) + torch.arange(3)
    texture = bake(shape, taken, Atlas(torch.cat([atlas.uv, tiny]), corners, atlas.charts + 1), side)
    shown = texture.image[row : row + 2, column : column + 2].reshape(-1, 3).float().mean(0) / 255
    assert shown.tolist() == pytest.approx([0.9, 0.1, 0.1], abs=0.02)


def test_the_same_pictures_give_the_same_texture(atlas: Atlas) -> None:
    shape, taken = mesh(), photographs(64)
    again = unwrap(shape, taken.cameras, 512)
    assert torch.equal(again.uv, atlas.uv)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = bake(shape, taken, atlas, 128).image
        torch.set_num_threads(2)
        two = bake(shape, taken, atlas, 128).image
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_bad_pictures_and_meshes_are_refused(atlas: Atlas) -> None:
    shape, taken = mesh(), photographs(32)
    with pytest.raises(BadInput, match="masks of all views are empty"):
        Projector(shape, Photographs(taken.cameras, taken.images, taken.masks & False, taken.weights))
    with pytest.raises(BadInput, match="32 x 16"):
        Projector(shape, Photographs(taken.cameras, taken.images[:, :16], taken.masks[:, :16], taken.weights))
    with pytest.raises(BadInput, match="no faces"):
        unwrap(Mesh(shape.vertices, shape.faces[:0]), taken.cameras)
    with pytest.raises(BadInput, match="0 pixels"):
        bake(shape, taken, atlas, 0)
