"""Pictures that hold a ControlNet to a bundle: derived from the bundle itself, of its size, on all eight tiles."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.bundle import VIEWS, split_bundle

Picture = UInt8[np.ndarray, "H W 3"]

CANNY = (100, 200)
"""Thresholds of the gradient between which an edge must touch a strong one (those of the published ControlNets)."""
BLUR = 1 / 64
"""Standard deviation of the blur, in tiles."""
COARSE = 4
"""How many times smaller the low-quality picture was."""
NEAREST, FARTHEST = 1.0, 0.25
"""Grey of the nearest and the farthest point of the object in a depth picture; what is behind is black."""
STEEPEST = 8.0
"""Slopes are cut off here: at the silhouette they have no bound."""
ANCHOR = 1e-3
"""How strongly depth is held to the plane of the silhouette, per pixel: makes the least-squares problem definite."""


def condition(mode: str, bundle: Picture) -> Picture:
    """The control picture of a bundle.

    Args:
        mode: tile, canny, depth, blur, gray or lq.
        bundle: (2 S, 4 S, 3).

    Raises:
        BadInput: a mode that can't be derived from a bundle.
    """
    side = bundle.shape[0] // 2
    if mode == "tile":
        return bundle
    if mode == "canny":
        return _grey(cv2.Canny(cv2.cvtColor(bundle, cv2.COLOR_RGB2GRAY), *CANNY))
    if mode == "gray":
        return _grey(cv2.cvtColor(bundle, cv2.COLOR_RGB2GRAY))
    if mode == "blur":
        return np.asarray(cv2.GaussianBlur(bundle, (0, 0), max(side * BLUR, 0.3)))
    if mode == "lq":
        small = cv2.resize(bundle, (4 * side // COARSE, 2 * side // COARSE), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (4 * side, 2 * side), interpolation=cv2.INTER_LINEAR))
    if mode == "depth":
        return pseudo_depth(bundle)
    raise BadInput(
        f"the control '{mode}' can't be made from a bundle",
        place="bundle.controls",
        hint="choose of: tile, canny, depth, blur, gray, lq",
    )


def fit_bundle(bundle: Picture, side: int) -> UInt8[np.ndarray, "h w 3"]:
    """The bundle with tiles of another side; no colour crosses from one tile into its neighbour."""
    before = bundle.shape[0] // 2
    if before == side:
        return bundle
    method = cv2.INTER_AREA if side < before else cv2.INTER_CUBIC
    rows = [
        np.concatenate(
            [
                cv2.resize(bundle[r : r + before, c : c + before], (side, side), interpolation=method)
                for c in range(0, 4 * before, before)
            ],
            1,
        )
        for r in (0, before)
    ]
    return np.concatenate(rows, 0)


def pseudo_depth(bundle: Picture) -> Picture:
    """Depth of each view, from its normals: near is light, the background black; the same under both rows.

    Each view on its own; a bundle has no absolute depth.
    """
    views = split_bundle(bundle)
    tiles = []
    for normals, mask in zip(views.normals, views.mask, strict=True):
        height = integrate(normals, mask)
        inside = height[mask]
        span = float(inside.max() - inside.min()) or 1.0
        grey = FARTHEST + (NEAREST - FARTHEST) * (height - inside.min()) / span
        tiles.append(torch.where(mask, grey, torch.zeros_like(grey)))
    row = torch.cat(tiles, 1).mul(255).round().to(torch.uint8).numpy()
    assert len(tiles) == VIEWS
    return _grey(np.concatenate([row, row], 0))


def integrate(normals: Float[Tensor, "S S 3"], mask: Bool[Tensor, "S S"]) -> Float[Tensor, "S S"]:
    """The height over the picture, in pixels, whose slopes agree best with the normals; 0 outside the mask.

    Least squares over neighbouring pixels (Horn and Brooks, "The variational approach to shape from shading", 1986):
    the height difference of two neighbours should be the mean of their slopes.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    inside = mask.numpy()
    vectors = normals.double().numpy()
    facing = np.maximum(vectors[..., 2], 1 / STEEPEST)
    slopes = np.clip(np.stack([-vectors[..., 0], vectors[..., 1]]) / facing, -STEEPEST, STEEPEST)  # along x, along rows
    index = np.full(inside.shape, -1)
    index[inside] = np.arange(inside.sum())
    count = int(inside.sum())
    rows, columns, values, wanted = [], [], [], []
    equation = 0
    for axis, slope in ((1, slopes[0]), (0, slopes[1])):
        here = (slice(None), slice(None, -1)) if axis == 1 else (slice(None, -1), slice(None))
        there = (slice(None), slice(1, None)) if axis == 1 else (slice(1, None), slice(None))
        both = inside[here] & inside[there]
        number = int(both.sum())
        places = equation + np.arange(number)
        rows += [places, places]
        columns += [index[there][both], index[here][both]]
        values += [np.ones(number), -np.ones(number)]
        wanted.append((slope[here][both] + slope[there][both]) / 2)
        equation += number
    matrix = coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(equation, count)
    ).tocsr()
    normal = (matrix.T @ matrix + diags(np.full(count, ANCHOR**2))).tocsc()
    solved = spsolve(normal, matrix.T @ np.concatenate(wanted), permc_spec="MMD_AT_PLUS_A")
    height = torch.zeros(inside.shape, dtype=torch.float64)
    height[mask] = torch.from_numpy(np.asarray(solved))
    return height.float()


def _grey(values: UInt8[np.ndarray, "H W"]) -> Picture:
    return np.repeat(values[..., None], 3, axis=2)
