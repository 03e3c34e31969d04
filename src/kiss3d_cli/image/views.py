"""Four pictures of an object on disk: one file a view, and the 2x4 and 2x2 grids that models take them in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.image.png import read_png, write_png

VIEW_NAMES = ("front", "right", "back", "left")
"""In the order of the bundle's columns: azimuth 0, 90, 180, 270."""
GRID_ORDER = ("right", "back", "left", "front")
"""The tiles of the 2x2 grid, row by row: azimuth 90, 180, 270, 0."""


def to_bytes(images: Float[Tensor, "*B 3"]) -> UInt8[np.ndarray, "*B 3"]:
    """Colours in [0, 1] as 8-bit pixels."""
    return images.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def write_views(folder: Path, views: Mapping[str, UInt8[np.ndarray, "S S 3"]]) -> None:
    """Write `front.png`, `right.png`, `back.png`, `left.png` and `grid.png`.

    Args:
        views: each view's picture, by its name.
    """
    rows = [np.concatenate([views[name] for name in GRID_ORDER[start : start + 2]], 1) for start in (0, 2)]
    pictures = {"grid": np.concatenate(rows, 0), **{name: views[name] for name in VIEW_NAMES}}
    side_by_side(lambda name: write_png(folder / f"{name}.png", pictures[name]), pictures)


def split_grid(grid: UInt8[np.ndarray, "H W 3"]) -> dict[str, UInt8[np.ndarray, "S S 3"]]:
    """The tiles of a 2x2 grid in `GRID_ORDER`, by the view's name; the inverse of what `write_views` puts together."""
    side = len(grid) // 2
    return {name: grid[index // 2 * side :, index % 2 * side :][:side, :side] for index, name in enumerate(GRID_ORDER)}


def read_views(paths: Mapping[str, Path]) -> Float[Tensor, "V S S 3"]:
    """The four views of `write_views` in the order of `VIEW_NAMES`, in [0, 1].

    Args:
        paths: each view's file, by its name.
    """
    return torch.from_numpy(np.stack([read_png(paths[name]) for name in VIEW_NAMES])).float() / 255
