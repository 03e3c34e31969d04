"""Geometric defects of a surface: intersecting faces and sharply bent edges."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from kiss3d_cli.geometry.surface.sorting import distinct, stable_order
from kiss3d_cli.geometry.surface.topology import weld

_PAIRS_AT_ONCE = 1 << 20
_CELL = 1.5
"""Side of a cell of the search grid in mean sides of the faces' boxes."""
_FINEST = 1 << 20
"""Cells along a side, at most: three of these numbers fit into one of 64 bits."""


def self_intersections(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> int:
    """The number of pairs of faces that intersect.

    Faces that share a position are not looked at, and two faces in one plane do not count.

    Args:
        vertices: of any scale.
        faces: with or without faults.
    """
    # columns of their own: gathering from one is several times faster than gathering rows
    welded = np.ascontiguousarray(weld(vertices)[faces].T)
    corners = vertices[faces].astype(np.float64)
    low, high = corners.min(1), corners.max(1)
    bounds = list(zip(np.ascontiguousarray(low.T), np.ascontiguousarray(high.T), strict=True))
    count = 0
    for first, second in _neighbours(low, high):
        for begin, end in bounds:
            meet = (begin[first] <= end[second]) & (begin[second] <= end[first])
            first, second = first[meet], second[meet]
        mine, others = ([column[number] for column in welded] for number in (first, second))
        apart = np.logical_and.reduce([one != other for one in mine for other in others])
        first, second = first[apart], second[apart]
        crossing = _straddles(corners[first], corners[second]) & _straddles(corners[second], corners[first])
        a, b = corners[first[crossing]], corners[second[crossing]]
        count += int((_edges_pierce(a, b) | _edges_pierce(b, a)).sum())
    return count


def _neighbours(low: Float[np.ndarray, "F 3"], high: Float[np.ndarray, "F 3"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of boxes that share a cell of a grid, each pair once, in batches."""
    if len(low) < 2:
        return []
    span = float((high.max(0) - low.min(0)).max())
    side = max(_CELL * float((high - low).mean()), span / (_FINEST - 2), 1e-30)
    begin, end = (np.floor((corner - low.min(0)) / side).astype(np.int64) for corner in (low, high))
    extent = end - begin + 1
    owner = np.repeat(np.arange(len(low)), extent.prod(1))
    place = np.arange(len(owner)) - np.repeat(np.cumsum(extent.prod(1)) - extent.prod(1), extent.prod(1))
    size = extent[owner]
    steps = np.stack([place // (size[:, 1] * size[:, 2]), place // size[:, 2] % size[:, 1], place % size[:, 2]], 1)
    cells = begin[owner] + steps
    key = (cells[:, 0] * _FINEST + cells[:, 1]) * _FINEST + cells[:, 2]
    order = np.argsort(key)
    key, owner, cells = key[order], owner[order], cells[order]
    lowest, places = np.ascontiguousarray(begin.T), np.ascontiguousarray(cells.T)
    # Two boxes share many cells; the pair belongs to the one in which the later of their lower corners lies.
    found: list[tuple[np.ndarray, np.ndarray]] = []
    here = np.arange(len(key))
    for offset in range(1, len(key)):
        here = here[: np.searchsorted(here, len(key) - offset)]
        here = here[key[here] == key[here + offset]]
        if not len(here):
            break
        for start in range(0, len(here), _PAIRS_AT_ONCE):
            at = here[start : start + _PAIRS_AT_ONCE]
            first, second = owner[at], owner[at + offset]
            ours = np.logical_and.reduce(
                [np.maximum(b[first], b[second]) == c[at] for b, c in zip(lowest, places, strict=True)]
            )
            found.append((first[ours], second[ours]))
    return found


def _straddles(ones: Float[np.ndarray, "P 3 3"], others: Float[np.ndarray, "P 3 3"]) -> np.ndarray:
    """Where the first triangle's corners lie on both sides of the second's plane."""
    normal = np.cross(others[:, 1] - others[:, 0], others[:, 2] - others[:, 0])
    height = np.einsum("pci,pi->pc", ones - others[:, :1], normal)
    return np.asarray((height.min(1) < 0) & (height.max(1) > 0))


def _edges_pierce(ones: Float[np.ndarray, "P 3 3"], others: Float[np.ndarray, "P 3 3"]) -> np.ndarray:
    """Where an edge of the first triangle runs through the second (Moeller and Trumbore 1997)."""
    found = np.zeros(len(ones), bool)
    side_one, side_two = others[:, 1] - others[:, 0], others[:, 2] - others[:, 0]
    for corner in range(3):
        origin, along = ones[:, corner], ones[:, (corner + 1) % 3] - ones[:, corner]
        normal = np.cross(along, side_two)
        determinant = (side_one * normal).sum(1)
        level = determinant != 0
        inverse = 1 / np.where(level, determinant, 1)
        offset = origin - others[:, 0]
        u = (offset * normal).sum(1) * inverse
        turned = np.cross(offset, side_one)
        v = (along * turned).sum(1) * inverse
        t = (side_two * turned).sum(1) * inverse
        found |= level & (u > 0) & (v > 0) & (u + v < 1) & (t > 0) & (t < 1)
    return found


def bent_edges(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"], degrees: float = 60.0) -> float:
    """Edges whose two faces look further apart than the given angle, for each 1,000 edges with two faces.

    Vertices at one position count as one. Faces without area have no direction: their edges count among all, never
    among the bent.
    """
    edges, of_face = edges_of(weld(vertices)[faces])
    inner = np.bincount(of_face.reshape(-1), minlength=len(edges)) == 2
    bent = which_bend(vertices, faces, of_face, degrees)
    return 1000 * float(bent.sum()) / max(1, int(inner.sum()))


def edges_of(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "F 3"]]:
    """All edges, and each face's: those from its first corner to the second, second to third, third to first."""
    start, end = faces.astype(np.int64), np.roll(faces, -1, 1).astype(np.int64)
    count = int(faces.max(initial=0)) + 1
    keys, _, of_face = distinct((np.minimum(start, end) * count + np.maximum(start, end)).reshape(-1), count**2)
    return np.stack([keys // count, keys % count], -1), of_face.reshape(-1, 3)


def which_bend(
    vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"], of_face: Int[np.ndarray, "F 3"], degrees: float
) -> Bool[np.ndarray, " E"]:
    """Which edges have exactly two faces, both with an area, that look further apart than the given angle.

    Args:
        of_face: the edges of each face, as of `edges_of`.
    """
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    unit = normals / np.where(length > 0, length, 1)[:, None]
    uses = np.bincount(of_face.reshape(-1))
    order = stable_order(of_face.reshape(-1), len(uses))
    begin = (np.cumsum(uses) - uses)[uses == 2]
    one, other = order[begin] // 3, order[begin + 1] // 3
    flat = (length[one] == 0) | (length[other] == 0)
    bent = np.zeros(len(uses), dtype=bool)
    bent[uses == 2] = ((unit[one] * unit[other]).sum(1) < np.cos(np.deg2rad(degrees))) & ~flat
    return bent
