"""Topology of a triangle mesh: closedness, components, genus and defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kiss3d_cli.geometry.surface.sorting import stable_order


@dataclass(frozen=True)
class MeshReport:
    """Counts and faults of a mesh. Vertices at the same position count as one for all but `vertices`.

    Attributes:
        vertices: as in the file.
        faces: as in the file.
        watertight: every edge belongs to exactly two faces.
        closed: every edge is walked as often one way as the other, so inside and outside are defined; true of
            a watertight and consistently wound mesh, and of several of them that touch along edges.
        winding_consistent: no edge is walked twice the same way.
        components: pieces connected by edges.
        genus: sum of the pieces' handles; None unless watertight and consistently wound.
        degenerate_faces: faces with no area.
        duplicate_faces: faces with the corners of an earlier one, in any order.
        volume: in cubed units of the vertices, negative when inside out; None unless closed.
        area: in squared units.
    """

    vertices: int
    faces: int
    watertight: bool
    closed: bool
    winding_consistent: bool
    components: int
    genus: int | None
    degenerate_faces: int
    duplicate_faces: int
    volume: float | None
    area: float


def weld(vertices: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, " N"]:
    """For each vertex the number of its position, 0 to the count of different positions - 1. Exact, not by tolerance.

    Positions are told apart by a 64-bit hash of their bits: two of a million different ones meet by chance with
    a probability of 3e-8.
    """
    key = _hash_rows(np.ascontiguousarray(vertices + 0.0, dtype=np.float64).view(np.uint64))  # + 0.0 turns -0 into 0
    order = np.argsort(key)
    number = np.empty(len(key), dtype=np.int64)
    number[order] = np.cumsum(np.diff(key[order], prepend=key[order[:1]]) != 0)
    return number


def report(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> MeshReport:
    """Describe a mesh. Faces that collapse when equal positions are joined take no part in its edges.

    Args:
        vertices: (N, 3).
        faces: (F, 3), at least one.
    """
    welded = weld(vertices)[faces]
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    sides = np.max([corner.max(0) for corner in (a, b, c)], 0) - np.min([corner.min(0) for corner in (a, b, c)], 0)
    normals = np.cross(b - a, c - a)
    area = np.sqrt(np.einsum("fi,fi->f", normals, normals)) / 2
    collapsed = (welded == np.roll(welded, 1, 1)).any(1)
    solid = welded[~collapsed]
    duplicates = len(solid) - len(unique_faces(solid)[0])

    tail, head = solid.reshape(-1), np.roll(solid, -1, 1).reshape(-1)
    number = np.int64(len(vertices))
    key = np.minimum(tail, head) * number + np.maximum(tail, head)
    order = stable_order(key, int(number) ** 2)
    first = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0]) if len(key) else np.zeros(0, np.int64)
    uses = np.diff(np.r_[first, len(key)])
    forward = np.add.reduceat((tail < head)[order].astype(np.int64), first) if len(first) else uses
    watertight = bool(len(uses)) and bool((uses == 2).all())
    closed = bool(len(uses)) and bool((2 * forward == uses).all())
    consistent = bool((np.maximum(forward, uses - forward) <= 1).all())

    # faces around an edge are joined in a chain; the pieces are the connected parts of that graph
    owner = np.repeat(np.arange(len(solid)), 3)[order]
    inner = np.ones(len(key), dtype=bool)
    inner[first] = False
    left, right = owner[np.flatnonzero(inner) - 1], owner[inner]
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(solid), len(solid)))
    components = int(connected_components(graph, directed=False)[0])

    genus = None
    if watertight and consistent:
        euler = int((np.bincount(solid.reshape(-1)) > 0).sum()) - len(uses) + len(solid)
        genus = components - euler // 2
    volume = float(np.einsum("fi,fi->", a - a[0], normals) / 6) if closed else None
    return MeshReport(
        vertices=len(vertices),
        faces=len(faces),
        watertight=watertight,
        closed=closed,
        winding_consistent=consistent,
        components=components,
        genus=genus,
        degenerate_faces=int((collapsed | (area <= 1e-16 * sides.max() ** 2)).sum()),
        duplicate_faces=int(duplicates),
        volume=volume,
        area=float(area.sum()),
    )


def unique_faces(
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, " U"], Int[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Sets of corners, told apart by a hash (see `weld`).

    Args:
        faces: (F, 3), no corner twice in a face.

    Returns:
        The first face of each set, ascending; each face's set; and each face's sense: 1 or -1, opposite for a face and
        its reverse.
    """
    key = _hash_rows(np.sort(faces, 1).view(np.uint64))
    a, b, c = faces.T
    sense = np.where((a < b) ^ (b < c) ^ (c < a), 1.0, -1.0)
    ascending = np.sort(key)
    if (ascending[1:] != ascending[:-1]).all():  # found several times sooner than sets are
        return np.arange(len(faces)), np.arange(len(faces)), sense
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)], sense


def _hash_rows(rows: UInt64[np.ndarray, "N 3"]) -> UInt64[np.ndarray, " N"]:
    """One number for three: the finaliser of splitmix64 (Steele et al. 2014) after each."""
    key = np.zeros(len(rows), dtype=np.uint64)
    for column in range(3):
        key = (key ^ rows[:, column]) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key
