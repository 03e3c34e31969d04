"""Control pictures of a bundle that shows a sphere at four distances from the middle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.bundle import Bundle, join_bundle
from kiss3d_cli.image.conditions import condition, fit_bundle, integrate

SIDE = 64


def sphere(side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit normals, mask and height in pixels of a sphere of 0.7 of the tile's half side, off centre."""
    radius = 0.7 * side / 2
    rows, columns = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    x, y = columns - 0.45 * side, 0.52 * side - rows
    z = (radius**2 - x**2 - y**2).clamp_min(0).sqrt()
    mask = x**2 + y**2 < (0.98 * radius) ** 2
    normals = torch.stack([x, y, z], -1) / radius
    return torch.where(mask[..., None], normals, 0), mask, torch.where(mask, z, 0)


def bundle() -> np.ndarray:
    normals, mask, _height = sphere()
    rgb = torch.rand(4, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    return join_bundle(Bundle(rgb, normals.expand(4, -1, -1, -1), mask.expand(4, -1, -1)))


def test_integrated_normals_give_the_height_back() -> None:
    normals, mask, height = sphere()
    got = integrate(normals, mask)
    got, wanted = got[mask] - got[mask].mean(), height[mask] - height[mask].mean()
    assert (got - wanted).abs().max() < 0.06 * float(height.max())
    assert float((got - wanted).pow(2).mean().sqrt()) < 0.02 * float(height.max())
    # a slope to the right and one downwards: signs
    flat = torch.tensor([-0.6, 0.0, 0.8]).expand(8, 8, 3)
    rising = integrate(flat, torch.ones(8, 8, dtype=torch.bool))
    assert torch.allclose(rising[:, 1:] - rising[:, :-1], torch.tensor(0.75), atol=1e-3)
    flat = torch.tensor([0.0, 0.6, 0.8]).expand(8, 8, 3)
    rising = integrate(flat, torch.ones(8, 8, dtype=torch.bool))
    assert torch.allclose(rising[1:] - rising[:-1], torch.tensor(0.75), atol=1e-3)


def test_depth_is_light_where_near_and_alike_in_both_rows() -> None:
    _normals, mask, height = sphere()
    depth = condition("depth", bundle())
    assert depth.shape == (2 * SIDE, 4 * SIDE, 3)
    assert (depth[:SIDE] == depth[SIDE:]).all()
    tile = depth[:SIDE, SIDE : 2 * SIDE, 0]
    assert (tile[~mask.numpy()] == 0).all()
    assert tile[mask.numpy()].min() >= 63
    order = np.corrcoef(tile[mask.numpy()], height[mask].numpy())[0, 1]
    assert order > 0.995


def test_canny_finds_a_square_and_nothing_else() -> None:
    picture = np.full((64, 128, 3), 255, np.uint8)
    picture[20:40, 30:60] = 0
    edges = condition("canny", picture)
    assert set(np.unique(edges)) == {0, 255}
    rows, columns = np.nonzero(edges[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) in {
        (19, 40, 29, 60),
        (20, 39, 30, 59),
        (19, 39, 29, 59),
    }
    assert not edges[24:36, 34:56].any()


def test_the_others_keep_the_size_and_do_what_their_names_say() -> None:
    picture = bundle()
    assert condition("tile", picture) is picture
    grey = condition("gray", picture)
    assert (grey[..., 0] == grey[..., 2]).all()

    def roughness(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=0)).mean())

    for mode in ("blur", "lq"):
        made = condition(mode, picture)
        assert made.shape == picture.shape
        assert roughness(made) < 0.6 * roughness(picture)
    with pytest.raises(BadInput, match="'pose' can't be made from a bundle"):
        condition("pose", picture)


@pytest.mark.parametrize("side", [32, 64, 96])
def test_fitting_keeps_tiles_apart(side: int) -> None:
    picture = np.zeros((128, 256, 3), np.uint8)
    colours = np.arange(8).reshape(2, 4) * 30
    for row in range(2):
        for column in range(4):
            picture[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = colours[row, column]
    fitted = fit_bundle(picture, side)
    assert fitted.shape == (2 * side, 4 * side, 3)
    for row in range(2):
        for column in range(4):
            tile = fitted[side * row : side * (row + 1), side * column : side * (column + 1)]
            assert (tile == colours[row, column]).all()
