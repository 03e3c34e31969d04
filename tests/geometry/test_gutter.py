"""What lies around the charts of an atlas: the colours across their seams."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.testing import assert_allclose

from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.charts import Atlas, unwrap
from kiss3d_cli.geometry.texture.fill import fill_around
from kiss3d_cli.geometry.texture.gutter import with_gutters
from kiss3d_cli.geometry.texture.texture import sampled
from kiss3d_cli.geometry.texture.transfer import texels_of
from shapes import ball

SIZE = 512


def painted(mesh: Mesh, atlas: Atlas, color) -> tuple[np.ndarray, np.ndarray]:
    texels = texels_of(mesh, atlas, SIZE)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[texels.inside] = (255 * color(texels.places)).round().byte().numpy()
    return image, texels.inside


def test_a_fold_is_laid_flat():
    """Two squares at a right angle along the x axis. The first is drawn upright, 100 texels to a unit, the second by a
    quarter turned, 160 to a unit along the fold and 80 across. Colours are the way along the surface and x."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]])
    mesh = Mesh(vertices, torch.tensor([[0, 2, 3], [0, 3, 1], [0, 1, 5], [0, 5, 4]]))
    first = [(100 + 100 * x, 300 + 100 * z) for x, z in ((0, 0), (1, 0), (0, 1), (1, 1))]
    second = [(300 + 80 * y, 100 + 160 * x) for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))]
    corners = torch.tensor([[0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6]])
    atlas = Atlas(torch.tensor([*first, *second], dtype=torch.float32) / SIZE, corners, 2)

    def color(place: torch.Tensor) -> torch.Tensor:
        way = 0.5 + 0.4 * (place[:, 2] - place[:, 1])
        return torch.stack([way, 0.2 + 0.6 * place[:, 0], 1 - way], 1)

    image, inside = painted(mesh, atlas, color)
    filled = with_gutters(image, inside, mesh, atlas)
    assert_allclose(filled[inside], image[inside])
    # the row above the first square is 0.005 up the second one; the column before the second 0.00625 out on the first
    across = 255 * (0.5 - 0.4 * 0.005), 255 * (0.5 + 0.4 * 0.5 / 80)
    middle = 255 * (0.2 + 0.6 * (np.arange(20, 80) + 0.5) / 100)
    assert_allclose(filled[299, 120:180, 0], across[0], atol=1.6)
    assert_allclose(filled[299, 120:180, 1], middle, atol=1.6)
    along = 255 * (0.2 + 0.6 * (np.arange(20, 140) + 0.5) / 160)
    assert_allclose(filled[120:240, 299, 0], across[1], atol=1.6)
    assert_allclose(filled[120:240, 299, 1], along, atol=1.6)
    # and it goes on: half a unit of space further out than a repeated border would be
    assert_allclose(filled[298, 120:180, 0], 255 * (0.5 - 0.4 * 0.015), atol=1.6)


def test_the_two_sides_of_every_seam_are_alike_where_colours_are_steep():
    mesh = ball(1.0, 24, 48)
    atlas = unwrap(mesh, orbit_cameras([0, 90, 180, 270], 5), SIZE)
    image, inside = painted(mesh, atlas, lambda place: 0.5 + 0.5 * torch.sin(25 * place.flip(1)))
    steps = {}
    for name, picture in (
        ("means", fill_around(image, inside)),
        ("gutters", with_gutters(image, inside, mesh, atlas)),
    ):
        seen = torch.from_numpy(picture)
        halves: dict[tuple[int, int], list[torch.Tensor]] = {}
        for face, corners in zip(mesh.faces.tolist(), atlas.corners.tolist(), strict=True):
            for i in range(3):
                j = (i + 1) % 3
                ends = sorted([(face[i], corners[i]), (face[j], corners[j])])
                middle = (atlas.uv[ends[0][1]] + atlas.uv[ends[1][1]]) / 2
                halves.setdefault((ends[0][0], ends[1][0]), []).append(middle)
        pairs = torch.stack([torch.stack(pair) for pair in halves.values()])
        apart = (pairs[:, 0] - pairs[:, 1]).abs().amax(1) > 1 / SIZE
        one, two = (sampled(seen, pairs[apart, side]) for side in (0, 1))
        steps[name] = 255 * (one - two).abs().mean(1)
    assert len(steps["means"]) > 100
    assert float(steps["gutters"].mean()) < 0.35 * float(steps["means"].mean())
    assert float(steps["gutters"].quantile(0.95)) < 0.5 * float(steps["means"].quantile(0.95))


def test_an_open_sheet_in_one_piece_has_no_seam_and_slivers_do_no_harm():
    sheet = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    uv = torch.tensor([[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]])
    atlas = Atlas(uv, sheet.faces, 1)
    image, inside = painted(sheet, atlas, lambda place: place.abs())
    assert (with_gutters(image, inside, sheet, atlas) == fill_around(image, inside)).all()
    # across the first edge lies a face without area, across the second one of no height
    more = torch.tensor([[0.5, 0, 0], [1, 0.5, 1e-9]])
    slivers = Mesh(torch.cat([sheet.vertices, more]), torch.cat([sheet.faces, torch.tensor([[1, 0, 4], [2, 1, 5]])]))
    places = torch.tensor([[0.7, 0.7], [0.8, 0.7], [0.75, 0.7], [0.7, 0.8], [0.8, 0.8], [0.75, 0.8]])
    split = Atlas(torch.cat([uv, places]), torch.cat([sheet.faces, torch.tensor([[4, 5, 6], [7, 8, 9]])]), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = with_gutters(image, inside, slivers, split)
    assert_allclose(filled[inside], image[inside])
