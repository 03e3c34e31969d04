"""Heights of an inflated silhouette over its mid-plane.

The height is the square root of u, where laplacian(u) = -c inside the silhouette and u = 0 on its outline, as in
sketch-based modelling (Wu et al. 2007, ShapePalettes; Baran and Lehtinen 2009). With c = 4 a disc becomes a ball; a
strip becomes a rod of round section only with c = 2. So u is solved for twice: the first solution's curvature says
where the silhouette is round and where it is long, and sets c for the second.

Where the silhouette is symmetric about an upright axis its trunk is made as deep as it is wide, as on a lathe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from kiss3d_cli.geometry.inflate.double_sheet import LEVEL, crossings
from kiss3d_cli.geometry.silhouette import depth_inside

SYMMETRY = (0.82, 0.9)
"""Intersection over union of the silhouette and its mirror image, between not turned at all and fully turned."""
TURNING_LIMIT = 1.6
"""How many times higher than inflation alone makes the whole, turning may make any part of it."""
TRUNK = 0.4
"""Share of the largest inscribed disc's radius: a disc of that size fits into the trunk everywhere."""


@dataclass(frozen=True)
class Heights:
    """How a silhouette rises over the picture's plane, in pixels.

    Attributes:
        squared: (H, W) square of the height; 0 outside.
        gradient: (H, W, 2) of `squared`, to the right and upwards: half of it points to the middle of the part that
            the pixel belongs to, as far as that is away; without the trunk's.
        source: (H, W) the c that `squared` was solved with.
        inflated: (H, W) `squared` before the trunk was turned.
    """

    squared: Float[np.ndarray, "H W"]
    gradient: Float[np.ndarray, "H W 2"]
    source: Float[np.ndarray, "H W"]
    inflated: Float[np.ndarray, "H W"]


def height_field(coverage: Float[np.ndarray, "H W"]) -> Heights:
    """Heights over the mid-plane, of a silhouette of one piece.

    Args:
        coverage: in [0, 1], at most one half on the border; upright, rows going down.
    """
    inside = coverage > LEVEL
    solve = poisson_solver(coverage)
    roundness = _roundness(solve(np.ones_like(coverage)), inside)
    inflated = np.maximum(solve(2 * (1 + roundness)), 0)
    return Heights(_turned(inflated, coverage), _gradient(inflated, inside), 2 * (1 + roundness), inflated)


def _gradient(u: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 2"]:
    """To the right and upwards; from neighbours inside the silhouette alone, smoothed a little."""
    parts = []
    for axis, sign in ((1, 1.0), (0, -1.0)):
        first, second = _ends(inside, axis)
        both = first & second
        low, high = _ends(u, axis)
        total, count = np.zeros_like(u), np.zeros_like(u)
        for end in _ends(total, axis):
            end += np.where(both, high - low, 0)
        for end in _ends(count, axis):
            end += both
        parts.append(sign * total / np.maximum(count, 1))
    weight = ndimage.gaussian_filter(inside.astype(np.float64), 1.5)
    smooth = [ndimage.gaussian_filter(part, 1.5) / np.maximum(weight, 1e-6) for part in parts]
    return np.where(inside[..., None], np.stack(smooth, -1), 0)


def poisson_solver(
    coverage: Float[np.ndarray, "H W"],
) -> Callable[[Float[np.ndarray, "H W"]], Float[np.ndarray, "H W"]]:
    """A solver of laplacian(u) = -source in the silhouette. Direct, so deterministic.

    The outline lies where the coverage crosses one half, between the pixels: a neighbour beyond it counts as a zero
    at the outline's own distance.
    """
    inside = coverage > LEVEL
    number = np.full(coverage.shape, -1)
    number[inside] = np.arange(inside.sum())
    diagonal = np.zeros(coverage.shape)
    starts, ends = [], []
    for axis in (0, 1):
        cut = crossings(coverage, axis)
        first, second = _ends(inside, axis)
        lower, upper = _ends(diagonal, axis)
        lower += np.where(first & ~second, 1 / cut, 1)
        upper += np.where(second & ~first, 1 / (1 - cut), 1)
        both = first & second
        here, there = _ends(number, axis)
        starts.append(here[both])
        ends.append(there[both])
    start, end = np.concatenate(starts), np.concatenate(ends)
    count = int(inside.sum())
    every = np.arange(count)
    matrix = sparse.coo_matrix(
        (
            np.concatenate([-np.ones(2 * len(start)), diagonal[inside]]),
            (np.concatenate([start, end, every]), np.concatenate([end, start, every])),
        ),
        shape=(count, count),
    )
    factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def solve(source: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        u = np.zeros(coverage.shape)
        u[inside] = factors.solve(source[inside])
        return u

    return solve


def _ends(grid: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of the two ends of each grid edge along an axis."""
    return (grid[:-1], grid[1:]) if axis == 0 else (grid[:, :-1], grid[:, 1:])


def _smoothstep(values: np.ndarray | float, low: float, high: float) -> np.ndarray:
    t = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _roundness(u: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Ratio of the smaller to the larger curvature of u: 1 in a disc, 0 in a strip; smoothed over the neighbourhood.

    Args:
        u: solution for an even source.
        inside: the silhouette.
    """
    row, column = np.gradient(u)
    row_row, row_column = np.gradient(row)
    _, column_column = np.gradient(column)
    middle = (row_row + column_column) / 2
    spread = np.sqrt(((row_row - column_column) / 2) ** 2 + row_column**2)
    weaker, stronger = -(middle + spread), -(middle - spread)
    ratio = (weaker / np.maximum(stronger, 1e-9)).clip(0, 1)
    # differences across the outline mean nothing
    core = ndimage.binary_erosion(inside, np.ones((3, 3), bool), iterations=2)
    if not core.any():
        return np.zeros_like(u)
    weight = core * u
    # as wide as the silhouette is thick there
    sigma = 0.35 * float(np.sqrt(2 * u.max()))
    total = ndimage.gaussian_filter(weight, sigma, mode="constant")
    return np.asarray(ndimage.gaussian_filter(weight * ratio, sigma, mode="constant") / np.maximum(total, 1e-12))


def symmetry(inside: Bool[np.ndarray, "H W"]) -> float:
    """Intersection over union of a silhouette and its mirror image about the upright line through its middle."""
    columns = np.flatnonzero(inside.any(0))
    shape = inside[:, columns[0] : columns[-1] + 1]
    mirrored = shape[:, ::-1]
    return float((shape & mirrored).sum() / (shape | mirrored).sum())


def _turned(u: Float[np.ndarray, "H W"], coverage: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Squared heights, raised where the trunk of a symmetric silhouette is wider than it would be deep.

    Ears, arms and stems are no part of the trunk: they stay as they are.
    """
    inside = coverage > LEVEL
    share = float(_smoothstep(symmetry(inside), *SYMMETRY))
    thickest = float(np.sqrt(u.max()))
    if share == 0 or thickest < 4:
        return u
    distance = depth_inside(inside)
    radius = TRUNK * float(distance.max())
    trunk = depth_inside(distance < radius) < radius
    disc = _level_discs(np.where(trunk, np.maximum(coverage, 0.51), 0))
    disc = ndimage.gaussian_filter1d(disc, 0.2 * radius, axis=0)
    # a tenth is within what smoothing does to a disc
    raised = np.minimum(disc, TURNING_LIMIT**2 * u.max()) - 1.1 * u
    extra = ndimage.gaussian_filter(np.where(inside, np.maximum(raised, 0), 0), 0.1 * radius)
    return np.asarray(np.where(inside, u + share * extra, 0))


def _level_discs(coverage: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """For each pixel (half the width of its row's run)^2 - (distance from the run's middle)^2."""
    inside = coverage > LEVEL
    rows, columns = np.nonzero(inside)
    # each run is one piece of a labelling that connects along rows alone
    runs, count = ndimage.label(inside, np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]]))
    label = runs[rows, columns]
    cut = crossings(coverage, 1)
    left = np.full(count + 1, np.inf)
    right = np.full(count + 1, -np.inf)
    np.minimum.at(left, label, columns - 1 + cut[rows, columns - 1])
    np.maximum.at(right, label, columns + cut[rows, columns])
    disc = np.zeros(coverage.shape)
    disc[rows, columns] = np.maximum((columns - left[label]) * (right[label] - columns), 0)
    return disc
