"""Distances between two sampled surfaces. All lengths are in the unit of the points given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from kiss3d_cli.core.errors import BadInput


@dataclass(frozen=True)
class SurfaceSample:
    """N points drawn uniformly by area from a triangle mesh, or the points of a scan.

    Attributes:
        points: (N, 3).
        normals: (N, 3) unit normals of the faces that the points lie on; None for a scan, which has no surface.
        faces: (N,) index of that face; None likewise.
    """

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"] | None
    faces: Int[np.ndarray, " N"] | None

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> SurfaceSample:
        """The same sample after a similarity (rotation, one scale, translation)."""
        linear = matrix[:3, :3]
        scale = np.cbrt(np.linalg.det(linear))
        points = np.einsum("nj,ij->ni", self.points, linear) + matrix[:3, 3]
        normals = None if self.normals is None else np.einsum("nj,ij->ni", self.normals, linear / scale)
        return SurfaceSample(points, normals, self.faces)


@dataclass(frozen=True)
class Nearest:
    """What each sample of two surfaces sees of the other.

    Attributes:
        to_truth: (N,) distance from each point of the prediction to the nearest point of the ground truth.
        to_prediction: (M,) the other way round.
        to_truth_cosine: (N,) |cos| between each point's normal and that of its nearest point; None if one of the
            two has no normals.
        to_prediction_cosine: (M,) the other way round.
    """

    to_truth: Float[np.ndarray, " N"]
    to_prediction: Float[np.ndarray, " M"]
    to_truth_cosine: Float[np.ndarray, " N"] | None
    to_prediction_cosine: Float[np.ndarray, " M"] | None


@dataclass(frozen=True)
class FScore:
    """Precision, recall and their harmonic mean at one threshold (Knapitsch et al. 2017, equations 3 to 5).

    Attributes:
        threshold: a distance below it (not at it) is a hit.
        precision: share of the prediction's points that hit the ground truth.
        recall: share of the ground truth's points that the prediction hits.
        f_score: harmonic mean of both; 0 where both are 0.
    """

    threshold: float
    precision: float
    recall: float
    f_score: float


@dataclass(frozen=True)
class Distances:
    """The point metrics of one pair of surfaces.

    Attributes:
        chamfer_l1: mean of the two directions' mean distances (not squared).
        chamfer_l2: sum of the two directions' mean squared distances.
        accuracy: mean distance from the prediction to the ground truth.
        completeness: mean distance from the ground truth to the prediction.
        hausdorff: the largest distance in either direction.
        hausdorff_95: the larger of the two directions' 95th percentiles.
        normal_consistency: mean of the two directions' mean |cos| between normals of nearest points; None without.
        f_scores: one for each threshold.
    """

    chamfer_l1: float
    chamfer_l2: float
    accuracy: float
    completeness: float
    hausdorff: float
    hausdorff_95: float
    normal_consistency: float | None
    f_scores: tuple[FScore, ...]


def sample_surface(
    vertices: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "F 3"],
    count: int,
    generator: np.random.Generator,
) -> SurfaceSample:
    """Draw points uniformly by area (Osada et al. 2002, section 4.1); the same generator state gives the same points.

    Args:
        vertices: (N, 3).
        faces: (F, 3); degenerate faces are never drawn from.
        count: number of points.
        generator: source of the 3 random numbers a point.

    Raises:
        BadInput: fewer than one point asked for, or no area to draw from.
    """
    if count < 1:
        raise BadInput(f"{count} points are not a sample", place="--points", hint="ask for 1 or more")
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    b, c = b - a, c - a
    normals = np.cross(b, c)
    area = np.sqrt(np.einsum("fi,fi->f", normals, normals))
    ends = np.cumsum(area)
    if not len(ends) or not ends[-1] > 0:
        raise BadInput("the mesh has no area to draw points from", hint="give a mesh with a surface")
    # side="right" skips faces of zero area; the last real face takes what rounding leaves over
    drawn = np.searchsorted(ends, generator.random(count) * ends[-1], side="right")
    drawn = np.minimum(drawn, int(np.flatnonzero(area)[-1]))
    u, v = generator.random((2, count))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u)[:, None], np.where(outside, 1 - v, v)[:, None]
    return SurfaceSample(a[drawn] + u * b[drawn] + v * c[drawn], normals[drawn] / area[drawn, None], drawn)


def nearest(prediction: SurfaceSample, truth: SurfaceSample, workers: int = -1) -> Nearest:
    """Exact nearest neighbours in both directions.

    Args:
        prediction, truth: the two samples, in one frame.
        workers: threads of the search, -1 for all cores; the result does not depend on it.
    """
    forward, forward_cosine = _one_way(prediction, truth, workers)
    backward, backward_cosine = _one_way(truth, prediction, workers)
    return Nearest(forward, backward, forward_cosine, backward_cosine)


def _one_way(
    source: SurfaceSample, target: SurfaceSample, workers: int
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"] | None]:
    tree = KDTree(target.points, balanced_tree=False, compact_nodes=False)
    distance, index = tree.query(source.points, workers=workers)
    if source.normals is None or target.normals is None:
        return np.asarray(distance), None
    cosine = np.abs(np.einsum("ni,ni->n", source.normals, target.normals[index]))
    return np.asarray(distance), np.minimum(cosine, 1.0)


def f_score(found: Nearest, threshold: float) -> FScore:
    """Precision, recall and F-score at one threshold, in the points' unit."""
    precision = float(np.mean(found.to_truth < threshold))
    recall = float(np.mean(found.to_prediction < threshold))
    total = precision + recall
    return FScore(threshold, precision, recall, 2 * precision * recall / total if total > 0 else 0.0)


def distances(found: Nearest, thresholds: tuple[float, ...]) -> Distances:
    """Every point metric of a pair, from its nearest neighbours."""
    forward, backward = found.to_truth, found.to_prediction
    accuracy, completeness = float(forward.mean()), float(backward.mean())
    cosines = found.to_truth_cosine, found.to_prediction_cosine
    consistency = None if cosines[0] is None or cosines[1] is None else float(cosines[0].mean() + cosines[1].mean()) / 2
    return Distances(
        chamfer_l1=(accuracy + completeness) / 2,
        chamfer_l2=float(np.mean(forward**2) + np.mean(backward**2)),
        accuracy=accuracy,
        completeness=completeness,
        hausdorff=float(max(forward.max(), backward.max())),
        hausdorff_95=float(max(np.percentile(forward, 95), np.percentile(backward, 95))),
        normal_consistency=consistency,
        f_scores=tuple(f_score(found, threshold) for threshold in thresholds),
    )
