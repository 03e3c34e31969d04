"""Bring a prediction onto its ground truth before the two are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.metrics import SurfaceSample
from kiss3d_cli.geometry.protocols import AlignmentKind

SEARCH_POINTS = 10_000
"""Samples of each surface, at most, that candidate transforms are judged by."""


@dataclass(frozen=True)
class Alignment:
    """The transform that was found for the prediction.

    Attributes:
        kind: what was searched.
        matrix: (4, 4), for column vectors, in the protocol's normalised frame.
        candidates: rotations considered.
        chamfer_before: mean of the two directions' mean distances on the search's points, as given.
        chamfer_after: the same with the matrix applied; never larger.
    """

    kind: AlignmentKind
    matrix: Float[np.ndarray, "4 4"]
    candidates: int
    chamfer_before: float
    chamfer_after: float

    @property
    def scale(self) -> float:
        return float(np.cbrt(np.linalg.det(self.matrix[:3, :3])))

    @property
    def degrees(self) -> float:
        """Angle of the rotation."""
        cosine = (np.trace(self.matrix[:3, :3]) / self.scale - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

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
        kind: `none`; `yaw`, the best of four quarter turns about y through the origin.
        prediction, truth: samples in the normalised frame; the first `SEARCH_POINTS` of each are used.
        workers: threads of the nearest-neighbour searches; the result does not depend on it.
    """
    source, target = prediction.points[:SEARCH_POINTS], truth.points[:SEARCH_POINTS]
    target_tree = KDTree(target, balanced_tree=False, compact_nodes=False)
    source_tree = KDTree(source, balanced_tree=False, compact_nodes=False)

    def chamfer(rotation: Float[np.ndarray, "3 3"]) -> float:
        # distances to a turned cloud are distances from the points turned back
        forward, _ = target_tree.query(np.einsum("nj,ij->ni", source, rotation), workers=workers)
        backward, _ = source_tree.query(np.einsum("nj,ji->ni", target, rotation), workers=workers)
        return float((np.mean(forward) + np.mean(backward)) / 2)

    before = chamfer(np.eye(3))
    if kind == "none":
        return Alignment(kind, np.eye(4), 1, before, before)
    if kind == "yaw":
        turns = [_quarter_turns(count) for count in range(4)]
        scores = [before, *(chamfer(turn) for turn in turns[1:])]
        best = int(np.argmin(scores))  # the first of equals, so no turn without a reason
        matrix = np.eye(4)
        matrix[:3, :3] = turns[best]
        return Alignment(kind, matrix, 4, before, scores[best])
    raise BadInput(f"The alignment '{kind}' is not built yet.", place="--align", hint="Use none or yaw.")


def _quarter_turns(count: int) -> Float[np.ndarray, "3 3"]:
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[count]
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], dtype=np.float64)
