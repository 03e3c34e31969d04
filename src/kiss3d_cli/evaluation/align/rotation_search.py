"""The best of 6,912 rotations by Chamfer distance, exactly as brute force finds it, at a fraction of the cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial import KDTree

AZIMUTHS, ELEVATIONS, ROLLS = 24, 24, 12
SEARCH_POINTS = 1000
"""Points of each cloud that ask for their nearest neighbour; the clouds that answer are whole."""
_FIELD = 64
_ROTATIONS_AT_ONCE = 64


@dataclass(frozen=True)
class RotationSearch:
    """The best rotations of the grid.

    Attributes:
        rotations: (K, 3, 3), best first.
        chamfer: (K,) their objective: mean of both directions' mean distances, over the search's points.
        index: (K,) their place in `rotation_grid()`.
        considered: rotations on the grid.
        evaluated: how many of them were measured; the others are proven to be worse.
    """

    rotations: Float[np.ndarray, "K 3 3"]
    chamfer: Float[np.ndarray, " K"]
    index: Int[np.ndarray, " K"]
    considered: int
    evaluated: int


def rotation_grid() -> Float[np.ndarray, "6912 3 3"]:
    """Ry(azimuth) Rx(elevation) Rz(roll): 24 azimuths all around, 24 elevations from -90 to 82.5 degrees, 12 rolls.

    The rotation by nothing and all quarter turns about y are among them, exactly.
    """
    azimuth = _axis_rotations(np.arange(AZIMUTHS) * (360 / AZIMUTHS), 1)
    elevation = _axis_rotations(np.arange(ELEVATIONS) * (180 / ELEVATIONS) - 90, 0)
    roll = _axis_rotations(np.arange(ROLLS) * (360 / ROLLS), 2)
    return np.asarray(np.einsum("aij,ejk,rkl->aeril", azimuth, elevation, roll).reshape(-1, 3, 3))


def view_grid() -> Float[np.ndarray, "6912 3 3"]:
    """Rz(roll) Rx(elevation) Ry(azimuth) P: 24 azimuths and 24 elevations all around, 12 rolls (ZeroShape's search).

    P, half a turn about (0, 1, -1), is where that search starts; the rotation by nothing is among them.
    """
    azimuth = _axis_rotations(np.arange(AZIMUTHS) * (360 / AZIMUTHS), 1)
    elevation = _axis_rotations(np.arange(ELEVATIONS) * (360 / ELEVATIONS), 0)
    roll = _axis_rotations(np.arange(ROLLS) * (360 / ROLLS), 2)
    start = np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    grid = np.einsum("rij,ejk,akl,lm->aerim", roll, elevation, azimuth, start)
    return np.asarray(grid.reshape(-1, 3, 3)) + 0.0


def view_scales(points: Float[np.ndarray, "N 3"], rotations: Float[np.ndarray, "K 3 3"]) -> Float[np.ndarray, " K"]:
    """For each rotation the scale that makes the larger of width (x) and height (y) of the turned points 1."""
    sides = []
    for start in range(0, len(rotations), _ROTATIONS_AT_ONCE):
        turned = np.einsum("kij,nj->kin", rotations[start : start + _ROTATIONS_AT_ONCE, :2], points)
        sides.append(np.ptp(turned, axis=-1).max(-1))
    return 1 / np.maximum(np.concatenate(sides), 1e-300)


def _axis_rotations(degrees: Float[np.ndarray, " K"], axis: int) -> Float[np.ndarray, "K 3 3"]:
    radians = np.deg2rad(degrees)
    cosine, sine = np.cos(radians).round(15), np.sin(radians).round(15)  # quarter turns come out exact
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(radians), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = cosine
    matrix[:, first, second], matrix[:, second, first] = -sine, sine
    return matrix


class RotationObjective:
    """Chamfer distance of a turned source to a target, both about the origin.

    Args:
        source: (N, 3).
        target: (M, 3).
        workers: threads of the searches; the result does not depend on it.
        asking: how many points of each cloud ask for their nearest neighbour.
        in_view: scale the source anew after each rotation (see `view_scales`).
    """

    def __init__(
        self,
        source: Float[np.ndarray, "N 3"],
        target: Float[np.ndarray, "M 3"],
        workers: int = -1,
        *,
        asking: int = SEARCH_POINTS,
        in_view: bool = False,
    ) -> None:
        self.source, self.target = source[:asking], target[:asking]
        self.source_tree = KDTree(source, balanced_tree=False, compact_nodes=False)
        self.target_tree = KDTree(target, balanced_tree=False, compact_nodes=False)
        self.whole = source if in_view else None
        self.radii = [float(np.sqrt(np.square(cloud).sum(-1).max())) for cloud in (source, target)]
        self.workers = workers

    def scales(self, rotations: Float[np.ndarray, "K 3 3"]) -> Float[np.ndarray, " K"]:
        """How much larger the source is taken at each rotation."""
        return np.ones(len(rotations)) if self.whole is None else view_scales(self.whole, rotations)

    def __call__(self, rotation: Float[np.ndarray, "3 3"]) -> float:
        scale = float(self.scales(rotation[None])[0])
        # distances to a turned cloud are distances from the points turned back
        forward, _ = self.target_tree.query(np.einsum("nj,ij->ni", scale * self.source, rotation), workers=self.workers)
        backward, _ = self.source_tree.query(
            np.einsum("nj,ji->ni", self.target / scale, rotation), workers=self.workers
        )
        return float((np.mean(forward) + scale * np.mean(backward)) / 2)

    def lower_bounds(self, rotations: Float[np.ndarray, "K 3 3"]) -> Float[np.ndarray, " K"]:
        """For each rotation a number that its objective cannot be below.

        A distance is 1-Lipschitz: at x it is at least that at the middle c of x's cell, minus |x - c|.
        """
        scales = self.scales(rotations)
        radius = max(self.radii[0] * float(scales.max()), self.radii[1])
        radius_back = max(self.radii[0], self.radii[1] / float(scales.min()))
        to_target, to_source = self._field(self.target_tree, radius), self._field(self.source_tree, radius_back)
        bounds = np.empty(len(rotations))
        for start in range(0, len(rotations), _ROTATIONS_AT_ONCE):
            some = slice(start, start + _ROTATIONS_AT_ONCE)
            turn, scale = rotations[some].astype(np.float32), scales[some]
            forward = self._bound(to_target, self.source, turn, scale, radius)
            backward = self._bound(to_source, self.target, turn.transpose(0, 2, 1), 1 / scale, radius_back)
            bounds[some] = (forward + scale * backward) / 2
        return bounds - 1e-5 * max(radius, radius_back * float(scales.max()))  # more than single precision can lose

    def _field(self, tree: KDTree, radius: float) -> Float32[np.ndarray, " R3"]:
        """Distances from the middles of a cube's cells, the corners of the cube left out: no point gets there."""
        middle = ((np.arange(_FIELD) + 0.5) * (2 / _FIELD) - 1) * radius
        points = np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), -1).reshape(-1, 3)
        reached = np.linalg.norm(points, axis=-1) <= radius * (1 + 2 / _FIELD)
        field = np.zeros(len(points), dtype=np.float32)
        field[reached] = tree.query(points[reached], workers=self.workers)[0]
        return field

    def _bound(
        self,
        field: Float32[np.ndarray, " R3"],
        points: Float[np.ndarray, "N 3"],
        rotations: Float32[np.ndarray, "K 3 3"],
        scales: Float[np.ndarray, " K"],
        radius: float,
    ) -> Float[np.ndarray, " K"]:
        turns = rotations * scales[:, None, None].astype(np.float32)
        cells = np.einsum("kij,nj->ikn", turns, (points * (_FIELD / 2 / radius)).astype(np.float32))
        cells += np.float32(_FIELD / 2)
        index = np.clip(cells.astype(np.int32), 0, _FIELD - 1)
        cells -= index
        cells -= np.float32(0.5)
        off = np.sqrt(np.einsum("ikn,ikn->kn", cells, cells)) * np.float32(2 * radius / _FIELD)
        distance = field[(index[0] * _FIELD + index[1]) * _FIELD + index[2]] - off
        return np.maximum(distance, 0).mean(-1, dtype=np.float64)


def search_rotations(
    objective: RotationObjective, keep: int = 8, grid: Float[np.ndarray, "K 3 3"] | None = None
) -> RotationSearch:
    """The `keep` best rotations of a grid: the same ones, in the same order, as `brute_force_rotations` gives.

    All are bounded from below through distance fields; then they are measured in the order of their bounds until
    the next bound is above the worst one that would be kept.

    Args:
        objective: what is to be small.
        keep: how many rotations are wanted.
        grid: (K, 3, 3), `rotation_grid()` by default.
    """
    grid = rotation_grid() if grid is None else grid
    bounds = objective.lower_bounds(grid)
    chamfer: dict[int, float] = {}
    worst = np.inf
    for index in np.argsort(bounds, kind="stable").tolist():
        if bounds[index] > worst:
            break
        chamfer[index] = objective(grid[index])
        if len(chamfer) >= keep:
            worst = sorted(chamfer.values())[keep - 1] if chamfer[index] < worst else worst
    return _best(grid, chamfer, keep)


def brute_force_rotations(
    objective: RotationObjective, keep: int = 8, grid: Float[np.ndarray, "K 3 3"] | None = None
) -> RotationSearch:
    """The same by measuring all of the grid: what `search_rotations` is checked against."""
    grid = rotation_grid() if grid is None else grid
    return _best(grid, {index: objective(rotation) for index, rotation in enumerate(grid)}, keep)


def _best(grid: Float[np.ndarray, "K 3 3"], chamfer: dict[int, float], keep: int) -> RotationSearch:
    order = sorted(chamfer, key=lambda index: (chamfer[index], index))[:keep]
    values = np.array([chamfer[index] for index in order])
    return RotationSearch(grid[order], values, np.array(order, dtype=np.int64), len(grid), len(chamfer))
