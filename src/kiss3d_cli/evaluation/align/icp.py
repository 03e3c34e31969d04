"""Iterative closest point (ICP): from an initial guess to a local minimum of the Chamfer distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from kiss3d_cli.evaluation.metrics import SurfaceSample

_TANGENTIAL = 0.05
"""Weight of the distance along the surface beside the distance off it; keeps planes and spheres from drifting."""
_CONVERGED = 1e-7


@dataclass(frozen=True)
class IcpResult:
    """Where the iteration ended.

    Attributes:
        matrix: (4, 4) from the source to the target: rotation, one scale, translation.
        chamfer: mean of the two directions' mean distances at `matrix`.
        iterations: steps made.
    """

    matrix: Float[np.ndarray, "4 4"]
    chamfer: float
    iterations: int


class Icp:
    """Aligns a source cloud to a target cloud; built once for several starts.

    The residuals are those of point-to-plane ICP (Chen and Medioni 1992) with a small point-to-point share
    (Besl and McKay 1992), in both directions, so that neither missing nor extra parts pull on one side alone.
    Each is weighted by 1 / distance (iteratively reweighted least squares), which makes the minimum that of the
    unsquared Chamfer distance.

    Args:
        source, target: points that do not all coincide.
        scaling: also find one scale.
        workers: threads of the searches; the result does not depend on it.
    """

    def __init__(self, source: SurfaceSample, target: SurfaceSample, scaling: bool, workers: int = -1) -> None:
        self.source, self.target = source, target
        # without normals the point-to-plane share is nothing: point-to-point ICP
        self.normals = np.zeros_like(target.points) if target.normals is None else target.normals
        self.scaling = scaling
        self.workers = workers
        self.source_tree = KDTree(source.points, balanced_tree=False, compact_nodes=False)
        self.target_tree = KDTree(target.points, balanced_tree=False, compact_nodes=False)
        spread = np.linalg.norm(target.points - target.points.mean(0), axis=-1).mean()
        self.softening = float(spread) / np.sqrt(len(target.points))  # about the distance between samples

    def run(self, start: Float[np.ndarray, "4 4"], iterations: int = 60) -> IcpResult:
        """Iterate from a start until nothing moves; the best transform on the way counts, which may be the start."""
        matrix = start
        best = IcpResult(start, np.inf, 0)
        for step in range(iterations + 1):
            moved, forward, near = self._forward(matrix)
            asked, backward = self._backward(matrix)
            chamfer = float((np.mean(forward) + np.mean(backward)) / 2)
            if chamfer < best.chamfer:
                best = IcpResult(matrix, chamfer, step)
            points = np.concatenate([moved, asked])
            goals = np.concatenate([self.target.points[near], self.target.points])
            normals = np.concatenate([self.normals[near], self.normals])
            # both directions count alike, whatever the number of points
            weights = np.concatenate(
                [1 / (forward + self.softening) / len(forward), 1 / (backward + self.softening) / len(backward)]
            )
            update = self._solve(points, goals, normals, weights)
            matrix = update @ matrix
            if np.abs(update - np.eye(4)).max() < _CONVERGED:
                break
        return best

    def _forward(
        self, matrix: Float[np.ndarray, "4 4"]
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        moved = np.einsum("nj,ij->ni", self.source.points, matrix[:3, :3]) + matrix[:3, 3]
        distance, index = self.target_tree.query(moved, workers=self.workers)
        return moved, np.asarray(distance), np.asarray(index)

    def _backward(self, matrix: Float[np.ndarray, "4 4"]) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, " M"]]:
        """The moved source point nearest to each target point, found in the source's own frame."""
        scale = _scale(matrix)
        turned_back = np.einsum("nj,ji->ni", self.target.points - matrix[:3, 3], matrix[:3, :3]) / scale**2
        distance, index = self.source_tree.query(turned_back, workers=self.workers)
        asked = np.einsum("nj,ij->ni", self.source.points[index], matrix[:3, :3]) + matrix[:3, 3]
        return asked, np.asarray(distance) * scale

    def _solve(
        self,
        points: Float[np.ndarray, "N 3"],
        goals: Float[np.ndarray, "N 3"],
        normals: Float[np.ndarray, "N 3"],
        weights: Float[np.ndarray, " N"],
    ) -> Float[np.ndarray, "4 4"]:
        """One Gauss-Newton step over rotation vector, translation and (log) scale, about the points' middle."""
        middle = points.mean(0)
        arm, gap = points - middle, points - goals
        jacobian = np.zeros((len(points), 3, 7))
        x, y, z = arm.T
        jacobian[:, 0, 1], jacobian[:, 0, 2] = z, -y  # the cross product with the arm
        jacobian[:, 1, 0], jacobian[:, 1, 2] = -z, x
        jacobian[:, 2, 0], jacobian[:, 2, 1] = y, -x
        jacobian[:, :, 3:6] = np.eye(3)
        jacobian[:, :, 6] = arm
        if not self.scaling:
            jacobian = jacobian[:, :, :6]
        off_jacobian = np.einsum("ni,nik->nk", normals, jacobian)
        off = np.einsum("ni,ni->n", normals, gap)
        normal_matrix = np.einsum("n,nk,nl->kl", weights, off_jacobian, off_jacobian)
        normal_matrix += _TANGENTIAL * np.einsum("n,nik,nil->kl", weights, jacobian, jacobian)
        right = np.einsum("n,nk,n->k", weights, off_jacobian, off)
        right += _TANGENTIAL * np.einsum("n,nik,ni->k", weights, jacobian, gap)
        size = np.trace(normal_matrix) / len(normal_matrix)
        step = -np.linalg.solve(normal_matrix + 1e-12 * size * np.eye(len(right)), right)
        scale = float(np.exp(np.clip(step[6], -0.2, 0.2))) if self.scaling else 1.0
        update = np.eye(4)
        update[:3, :3] = scale * _rotation(step[:3])
        update[:3, 3] = middle + step[3:6] - update[:3, :3] @ middle
        return update


def _rotation(vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation about a vector by its length in radians (Rodrigues), at most half a radian at a time."""
    angle = float(np.sqrt((vector**2).sum()))
    if angle < 1e-15:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = min(angle, 0.5)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))


def _scale(matrix: Float[np.ndarray, "4 4"]) -> float:
    return float(np.cbrt(np.linalg.det(matrix[:3, :3])))
