"""Fairing of sharp edges: vertices beside them move until no edge is bent too far."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.intersections import edges_of, which_bend

MARGIN = 8.0
"""Degrees: edges are brought so far below the limit, so that rounding of numbers does not take them over it again."""
REACH = 0.3
"""How far a vertex may move along each axis in a round, in lengths of its shortest edge: no face turns over."""
ROUNDS = 8
"""A place that is mended may bend an edge beside it, which is the next round's."""
_STAY = 0.02
"""Weight of the squared moves, in shortest edges, against the squared cosines that are missing."""
_ITERATIONS = 40


def ease_bent_edges(mesh: Mesh, degrees: float = 60.0) -> Mesh:
    """Move vertices until no edge is bent by more than an angle, as little as that takes; the faces stay.

    Minimises the sum over edges of max(0, cos(a) - n1 . n2)^2, with the unit normals of an edge's faces and an angle a
    a little below the limit, plus a small weight on the moves. Only the ends of bent edges and the vertices opposite
    to them are free, each within a box of its shortest edge. Most vertices of most meshes stay bit by bit.

    Args:
        mesh: a sampling of a surface that is smooth everywhere; a real crease would be bevelled.
        degrees: between the directions of an edge's two faces.
    """
    points, faces = mesh.vertices.double().cpu().numpy(), mesh.faces.cpu().numpy()
    edges, of_face = edges_of(faces)
    paired = np.bincount(of_face.reshape(-1), minlength=len(edges)) == 2
    beside = _beside(of_face, paired)
    moved = points
    for _ in range(ROUNDS):
        bent = which_bend(moved, faces, of_face, degrees)
        if not bent.any():
            break
        moved = _eased(moved, faces, beside, bent[paired], np.cos(np.deg2rad(degrees - MARGIN)))
    return mesh if moved is points else mesh.with_vertices(torch.from_numpy(moved).to(mesh.vertices))


def _beside(of_face: Int[np.ndarray, "F 3"], paired: np.ndarray) -> Int[np.ndarray, "P 2"]:
    """The two faces of every edge that has two."""
    of_corner = of_face.reshape(-1)
    order = np.argsort(of_corner, kind="stable")
    return np.asarray(order[paired[of_corner[order]]].reshape(-1, 2) // 3)


def _eased(
    points: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "F 3"],
    beside: Int[np.ndarray, "P 2"],
    bent: np.ndarray,
    least: float,
) -> Float[np.ndarray, "N 3"]:
    """One round: the minimum with the corners of the bent edges' faces free, in their boxes."""
    from scipy.optimize import minimize  # slow to import

    free = np.unique(faces[beside[bent]])
    is_free = np.zeros(len(points), bool)
    is_free[free] = True
    pairs = beside[is_free[faces[beside]].any((1, 2))]
    near, pairs = np.unique(pairs, return_inverse=True)
    pairs = pairs.reshape(-1, 2)
    used, corners = np.unique(faces[near], return_inverse=True)
    corners = corners.reshape(-1, 3)
    at, number = points[used], np.searchsorted(used, free)
    length = np.linalg.norm(at[corners] - at[np.roll(corners, 1, 1)], axis=2)
    shortest = np.full(len(used), np.inf)
    np.minimum.at(shortest, corners, np.minimum(length, np.roll(length, -1, 1)))
    unit = shortest[number][:, None]

    def energy(flat: Float[np.ndarray, " K"]) -> tuple[float, Float[np.ndarray, " K"]]:
        move = flat.reshape(-1, 3)
        now = at.copy()
        now[number] += unit * move
        a, b, c = now[corners[:, 0]], now[corners[:, 1]], now[corners[:, 2]]
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal, axis=1)[:, None]
        direction = normal / np.where(area > 0, area, 1)
        one, two = direction[pairs[:, 0]], direction[pairs[:, 1]]
        missing = np.maximum(least - (one * two).sum(1), 0)
        # down to the unit normals, to the normals, to the corners
        slope = -2 * missing[:, None]
        to_direction = _summed(pairs, np.stack([slope * two, slope * one], 1), len(near))
        across = to_direction - direction * (to_direction * direction).sum(1)[:, None]
        to_normal = across / np.where(area > 0, area, np.inf)
        turned = [np.cross(to_normal, edge) for edge in (b - c, c - a, a - b)]
        gradient = -_summed(corners, np.stack(turned, 1), len(used))[number] * unit + 2 * _STAY * move
        return float((missing**2).sum() + _STAY * (move**2).sum()), gradient.reshape(-1)

    found = minimize(
        energy,
        np.zeros(3 * len(free)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-REACH, REACH)] * (3 * len(free)),
        options={"maxiter": _ITERATIONS},
    )
    moved = points.copy()
    moved[free] += unit * found.x.reshape(-1, 3)
    return moved


def _summed(index: Int[np.ndarray, "M K"], values: Float[np.ndarray, "M K 3"], count: int) -> Float[np.ndarray, "N 3"]:
    """The sum of the values at each index."""
    at = index.reshape(-1)
    columns = values.reshape(-1, 3).T
    return np.stack([np.bincount(at, column, count) for column in columns], 1)
