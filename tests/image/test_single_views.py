"""Single views on whatever background they come on, and sets of six."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.grids import ROW, SIX, ZERO123PLUS, layout_of, tile_mask
from kiss3d_cli.image.single_views import azimuth_of, join_views

SIDE = 64


def disc() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    return np.hypot(x - 0.1, y) < 0.6


def ball() -> np.ndarray:
    """Encoded normals of a ball that fills the disc."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    xy = np.stack([x - 0.1, -y], -1) / 0.6
    z = np.sqrt((1 - np.square(xy).sum(-1)).clip(0))
    return ((np.concatenate([xy, z[..., None]], -1).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def save(path: Path, rgb: np.ndarray, alpha: np.ndarray | None = None) -> Path:
    Image.fromarray(rgb if alpha is None else np.dstack([rgb, alpha.astype(np.uint8) * 255])).save(path)
    return path


@pytest.mark.parametrize("ground", ["white", "black", "violet", "own alpha", "alpha of the view"])
def test_the_background_of_a_normal_map(tmp_path: Path, ground: str) -> None:
    mask, rng = disc(), np.random.default_rng(0)
    fill = {"white": [255] * 3, "black": [0] * 3, "violet": [128, 128, 255]}.get(ground)
    outside = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) if fill is None else np.array(fill, np.uint8)
    normals = save(
        tmp_path / "n.png",
        np.where(mask[..., None], ball(), outside).astype(np.uint8),
        mask if ground == "own alpha" else None,
    )
    view = save(tmp_path / "v.png", np.full((SIDE, SIDE, 3), 90, np.uint8), mask if "view" in ground else None)
    azimuths = (0.0, 90.0, 180.0, 270.0)
    joined = join_views(dict.fromkeys(azimuths, view), dict.fromkeys(azimuths, normals))
    assert joined.shape == (2 * SIDE, 4 * SIDE, 4)
    tile = joined[SIDE:, :SIDE]
    shown = (tile[..., 3] == 255) & (tile[..., :3] < 231).any(-1)  # a bundle's background is white
    differs = shown ^ mask
    assert differs.mean() < 0.01
    np.testing.assert_array_equal(tile[..., :3][shown & mask], ball()[shown & mask])


def test_sets_of_six_have_the_order_of_their_grid(tmp_path: Path) -> None:
    for layout in (SIX, ROW, ZERO123PLUS):
        shades = {azimuth: 10 + 20 * index for index, azimuth in enumerate(layout.azimuths)}
        views = {
            azimuth: save(tmp_path / f"{azimuth}.png", np.full((SIDE, SIDE, 3), shade, np.uint8))
            for azimuth, shade in reversed(shades.items())
        }
        joined = join_views(views, views if layout.normals else {})
        assert layout_of(joined[..., :3], "joined") is layout
        seen = [int(tile[0, 0, 0]) for tile in layout.tiles(joined[..., :3])]
        assert seen == list(shades.values()) * (2 if layout.normals else 1)
    with pytest.raises(BadInput, match="with normals are no set of views"):
        join_views(views, views)


def test_names_of_views() -> None:
    assert [azimuth_of(name) for name in ("front", "Front-Left", "-90", "360", "30.0")] == [0, 315, 270, 0, 30]
    assert [azimuth_of(name) for name in ("top", "", "nan", "inf")] == [None] * 4


def test_alpha_wins_over_a_plain_background() -> None:
    white, mask = np.full((SIDE, SIDE, 3), 255, np.uint8), disc()
    found = tile_mask(white, mask.astype(np.uint8) * 255)
    assert found is not None
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(mask))
    plain = tile_mask(white, np.full((SIDE, SIDE), 255, np.uint8))
    assert plain is not None
    assert not plain.any()
