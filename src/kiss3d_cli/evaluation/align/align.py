"""Bring a prediction onto its ground truth before the two are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.align.icp import Icp, IcpResult
from kiss3d_cli.evaluation.align.rotation_search import (
    RotationObjective,
    RotationSearch,
    search_rotations,
    view_grid,
)
from kiss3d_cli.evaluation.metrics import SurfaceSample, nearest
from kiss3d_cli.evaluation.protocols import AlignmentKind

JUDGE_POINTS = 10_000
"""Samples of each surface, at most, that transforms are judged by."""
MINIMUM_POINTS = 100
"""Fewer cannot tell one rotation from another."""
_STARTS = 4
_START_POINTS = 2500
_APART = 25.0
"""Degrees between two rotations for both to be starts of their own."""


@dataclass(frozen=True)
class Alignment:
    """The transform that was found for the prediction.

    Attributes:
        kind: what was searched.
        matrix: (4, 4), for column vectors, in the protocol's normalised frame: rotation, one scale, translation.
        candidates: rotations considered.
        chamfer_before: mean of the two directions' mean distances, as given; None where nothing was searched.
        chamfer_after: the same with the matrix applied. `align` gives both on the points that it judges by,
            `evaluate` on all.
    """

    kind: AlignmentKind
    matrix: Float[np.ndarray, "4 4"]
    candidates: int
    chamfer_before: float | None
    chamfer_after: float | None

    @property
    def scale(self) -> float:
        return float(np.cbrt(np.linalg.det(self.matrix[:3, :3])))

    @property
    def degrees(self) -> float:
        """Angle of the rotation."""
        return _angle(self.matrix[:3, :3] / self.scale)

    def record(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return {
            "kind": self.kind,
            "matrix": self.matrix.tolist(),
            "rotation_degrees": self.degrees,
            "scale": self.scale,
            "translation": self.matrix[:3, 3].tolist(),
            "candidates": self.candidates,
            "chamfer_before": self.chamfer_before,
            "chamfer_after": self.chamfer_after,
        }


def align(kind: AlignmentKind, prediction: SurfaceSample, truth: SurfaceSample, workers: int = -1) -> Alignment:
    """Find the transform of a kind that lowers the Chamfer distance most.

    Args:
        kind: `none`; `yaw`, the best of four quarter turns about y through the origin; `rigid`, the rotation search
            about the two centroids, then ICP; `similarity`, the same with one scale, from that of equal spread;
            `view-grid`, the best of ZeroShape's 6,912 rotations, the source scaled anew after each.
        prediction, truth: samples in the normalised frame; the first `JUDGE_POINTS` of each are used.
        workers: threads of the nearest-neighbour searches; the result does not depend on it.

    Raises:
        BadInput: fewer than `MINIMUM_POINTS` for a search of rotations.
    """
    if kind == "none":
        return Alignment(kind, np.eye(4), 1, None, None)
    fewest = min(len(prediction.points), len(truth.points))
    if kind != "yaw" and fewest < MINIMUM_POINTS:
        hint = f"ask for {MINIMUM_POINTS} or more, or use --align none"
        raise BadInput(f"{fewest} points are too few for the alignment '{kind}'", place="--points", hint=hint)
    source, target = _first(prediction, JUDGE_POINTS), _first(truth, JUDGE_POINTS)

    def chamfer(matrix: Float[np.ndarray, "4 4"]) -> float:
        found = nearest(source.transformed(matrix), target, workers)
        return float((found.to_truth.mean() + found.to_prediction.mean()) / 2)

    before = chamfer(np.eye(4))
    if kind == "yaw":
        turns = [_quarter_turns(count) for count in range(4)]
        scores = [before, *(chamfer(turn) for turn in turns[1:])]
        best = int(np.argmin(scores))  # the first of equals, so no turn without a reason
        return Alignment(kind, turns[best], 4, before, scores[best])
    if kind == "view-grid":
        count = max(len(prediction.points), len(truth.points))
        objective = RotationObjective(prediction.points, truth.points, workers, asking=count, in_view=True)
        grid = view_grid()
        found = search_rotations(objective, 1, grid)
        turn = np.eye(4)
        turn[:3, :3] = found.rotations[0] * objective.scales(found.rotations[:1])[0]
        return Alignment(kind, turn, len(grid), before, float(found.chamfer[0]))
    centering, spread = _centred(source, target, scaling=kind == "similarity")
    search = search_rotations(RotationObjective(*centering, workers))
    middles = source.points.mean(0), target.points.mean(0)
    starts = [np.eye(4), *(_about(rotation, spread, *middles) for rotation in distinct(search)[:_STARTS])]
    refined = refine(source, target, starts, scaling=kind == "similarity", workers=workers)
    if refined.chamfer >= before:
        return Alignment(kind, np.eye(4), search.considered, before, before)
    return Alignment(kind, refined.matrix, search.considered, before, refined.chamfer)


def refine(
    source: SurfaceSample,
    target: SurfaceSample,
    starts: list[Float[np.ndarray, "4 4"]],
    *,
    scaling: bool,
    workers: int = -1,
) -> IcpResult:
    """ICP from every start on few points, then on all of them from where it went best; the earliest of equals wins."""
    quick = Icp(_first(source, _START_POINTS), _first(target, _START_POINTS), scaling, workers)
    reached = min((quick.run(start, iterations=25) for start in starts), key=lambda result: result.chamfer)
    return Icp(source, target, scaling, workers).run(reached.matrix)


def distinct(search: RotationSearch) -> list[Float[np.ndarray, "3 3"]]:
    """The search's rotations, best first, without those close to a better one."""
    kept: list[Float[np.ndarray, "3 3"]] = []
    for rotation in search.rotations:
        if all(_angle(other.T @ rotation) > _APART for other in kept):
            kept.append(rotation)
    return kept


def _centred(
    source: SurfaceSample, target: SurfaceSample, *, scaling: bool
) -> tuple[tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "M 3"]], float]:
    """Both clouds about their middles, and the scale that gives the source the target's spread (1 without scaling)."""
    first, second = source.points - source.points.mean(0), target.points - target.points.mean(0)
    spread = float(np.sqrt(np.square(second).mean() / np.square(first).mean())) if scaling else 1.0
    return (first * spread, second), spread


def _about(
    rotation: Float[np.ndarray, "3 3"],
    scale: float,
    source_middle: Float[np.ndarray, " 3"],
    target_middle: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = target_middle - matrix[:3, :3] @ source_middle
    return matrix


def _first(sample: SurfaceSample, count: int) -> SurfaceSample:
    return SurfaceSample(
        sample.points[:count],
        None if sample.normals is None else sample.normals[:count],
        None if sample.faces is None else sample.faces[:count],
    )


def _angle(rotation: Float[np.ndarray, "3 3"]) -> float:
    """Degrees of a rotation; by its sine and cosine, as the cosine alone cannot tell small angles apart."""
    twist = rotation - rotation.T
    sine = float(np.sqrt(twist[2, 1] ** 2 + twist[0, 2] ** 2 + twist[1, 0] ** 2)) / 2
    return float(np.degrees(np.arctan2(sine, (np.trace(rotation) - 1) / 2)))


def _quarter_turns(count: int) -> Float[np.ndarray, "4 4"]:
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[count]
    matrix = np.eye(4)
    matrix[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    return matrix
