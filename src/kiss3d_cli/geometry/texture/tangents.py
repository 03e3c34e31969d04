"""Tangent vectors of a textured surface, for normal maps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def tangents(
    vertices: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    uv: Float[np.ndarray, "N 2"],
    faces: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, "N 4"]:
    """glTF's tangents: the unit vector along which u grows, and the sign of `cross(normal, tangent)` against -v.

    Each vertex takes the mean over its faces, by their area in space (Lengyel 2001), made perpendicular to its normal.

    Args:
        normals: unit vectors.
        uv: u to the right, v down; vertices are split at seams and where the picture is mirrored.
    """
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    s, t, u = (uv[faces[:, corner]] for corner in range(3))
    edges, turns = np.stack([b - a, c - a], 1), np.stack([t - s, u - s], 1)
    determinant = turns[:, 0, 0] * turns[:, 1, 1] - turns[:, 0, 1] * turns[:, 1, 0]
    sign = np.where(determinant < 0, -1.0, 1.0)[:, None]
    along = sign * (turns[:, 1, 1:] * edges[:, 0] - turns[:, 0, 1:] * edges[:, 1])
    down = sign * (turns[:, 0, :1] * edges[:, 1] - turns[:, 1, :1] * edges[:, 0])
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1, keepdims=True)
    totals = []
    for direction in (along, down):
        unit = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-30) * area
        total = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(total, faces[:, corner], unit)
        totals.append(total)
    flat = totals[0] - (totals[0] * normals).sum(1, keepdims=True) * normals
    # a vertex whose faces have no place in the picture takes any direction along the surface
    lost = np.linalg.norm(flat, axis=1) <= 1e-12 * max(float(area.max(initial=0)), 1e-30)
    axis = np.eye(3)[np.abs(normals[lost]).argmin(1)]
    flat[lost] = np.cross(normals[lost], axis)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    handed = np.where((np.cross(normals, flat) * -totals[1]).sum(1) < 0, -1.0, 1.0)
    return np.concatenate([flat, handed[:, None]], 1)
