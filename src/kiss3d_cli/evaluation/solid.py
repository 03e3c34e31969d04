"""The volume that a mesh encloses, also with duplicate faces, mixed winding or overlapping shells.

A winding number is 0 everywhere if each face also stands there reversed, and in the overlap of two shells of which one
is inside out. Both are common in exported meshes and mean the same solid as the clean mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kiss3d_cli.geometry.surface.sorting import stable_order
from kiss3d_cli.geometry.surface.topology import unique_faces, weld


@dataclass(frozen=True)
class Solid:
    """The closed shells of a mesh, or the reason why its volume is undefined.

    Attributes:
        faces: (F, 3) of closed shells, each consistently wound.
        shell: (F,) the shell of each face, 0 to S - 1; shells are connected by edges.
        volume: (S,) signed volume of each shell, negative where it is wound inside out.
        reason: why inside and outside are not defined, as a clause about the mesh; None if they are.
    """

    faces: Int[np.ndarray, "F 3"]
    shell: Int[np.ndarray, " F"]
    volume: Float[np.ndarray, " S"]
    reason: str | None = None


def solid_of(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> Solid:
    """The closed shells of a mesh; vertices at the same position count as one.

    Copies of a face count once. A face and its reverse cancel where the rest of their shell is closed without them (a
    wall between two cells), and count once where it is not (a surface exported double-sided). Double-sided sheets with
    a boundary have no volume and are left out.

    Args:
        vertices: (N, 3).
        faces: (F, 3).
    """
    welded = weld(vertices)[faces]
    kept = np.flatnonzero(~(welded == np.roll(welded, 1, 1)).any(1))
    first, inverse, turn = unique_faces(welded[kept])
    if not len(first):
        return _none("all its faces are degenerate")
    net = np.sign(np.rint(np.bincount(inverse, weights=turn))).astype(np.int8)
    chosen = kept[first]  # one face for each set of corners, wound as its first copy
    shape = welded[chosen]
    edges = _edges(shape)
    piece_count, piece = connected_components(_neighbours(edges, len(chosen)), directed=False)
    single = net != 0
    sign = net * turn[first].astype(np.int8)  # -1: wound as its reverse, of which there are more copies
    balanced = _balanced(edges, sign, piece, piece_count)
    flat = np.bincount(piece[single], minlength=piece_count) == 0  # every face of the piece has its reverse
    rewound = ~(balanced & ~flat)
    result = np.where(rewound[piece], 0, sign)  # 1: as chosen, -1: reversed, 0: left out
    rest = rewound[piece]
    if rest.any():
        signs, reason = _oriented(shape[rest], piece[rest], flat)
        if reason is not None:
            return _none(reason)
        result[rest] = signs
    used = result != 0
    if not used.any():
        return Solid(faces[:0], np.zeros(0, np.int64), np.zeros(0))
    out = faces[chosen[used]]
    out = np.where((result[used] < 0)[:, None], out[:, ::-1], out)
    pieces = np.flatnonzero(np.bincount(piece[used]))
    shell = (np.cumsum(np.bincount(pieces, minlength=piece_count)) - 1)[piece[used]]
    origin = vertices[out[0, 0]]
    a, b, c = (vertices[out[:, corner]] - origin for corner in range(3))
    volume = np.bincount(shell, weights=np.einsum("fi,fi->f", a, np.cross(b, c)) / 6)
    inward = rewound[pieces] & (volume < 0)  # wound here, so the file does not say which side is out
    return Solid(np.where(inward[shell, None], out[:, ::-1], out), shell, np.where(inward, -volume, volume))


def _none(reason: str) -> Solid:
    return Solid(np.zeros((0, 3), np.int64), np.zeros(0, np.int64), np.zeros(0), reason)


@dataclass(frozen=True)
class _Edges:
    """The sides of all faces, those of one undirected edge in a row, in the order of their faces.

    Attributes:
        face: of each side.
        up: whether the side is walked from the vertex of the smaller number.
        first: (E,) where the sides of each edge begin.
    """

    face: Int[np.ndarray, " K"]
    up: Bool[np.ndarray, " K"]
    first: Int[np.ndarray, " E"]


def _edges(faces: Int[np.ndarray, "F 3"]) -> _Edges:
    tail, head = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    number = int(faces.max()) + 1
    edge = np.minimum(tail, head) * number + np.maximum(tail, head)
    order = stable_order(edge, number**2)
    edge = edge[order]
    first = np.flatnonzero(np.r_[True, edge[1:] != edge[:-1]])
    return _Edges(order // 3, (tail < head)[order], first)


def _neighbours(edges: _Edges, count: int) -> coo_array:
    """Faces at an edge, joined in a chain."""
    follows = np.ones(len(edges.face), dtype=bool)
    follows[edges.first] = False
    right = np.flatnonzero(follows)
    pairs = (edges.face[right - 1], edges.face[right])
    return coo_array((np.ones(len(right), np.int8), pairs), shape=(count, count))


def _balanced(
    edges: _Edges, sign: Int[np.ndarray, " F"], piece: Int[np.ndarray, " F"], pieces: int
) -> Bool[np.ndarray, " P"]:
    """Which pieces have every edge walked as often one way as the other, by faces times their sign."""
    good = np.ones(pieces, dtype=bool)
    net = np.add.reduceat(np.where(edges.up, 1, -1) * sign[edges.face], edges.first)
    good[piece[edges.face[edges.first[net != 0]]]] = False
    return good


def _oriented(
    faces: Int[np.ndarray, "F 3"], piece: Int[np.ndarray, " F"], flat: Bool[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " F"], str | None]:
    """Signs that wind each piece consistently: 1, -1, or 0 for a double-sided sheet with a boundary.

    Faces at an edge must walk it in opposite directions. On the double cover (each face once for either sign) the
    consistent choices are the connected components; a piece whose two covers are joined can't be wound at all.
    """
    edges = _edges(faces)
    face, up, first = edges.face, edges.up, edges.first
    uses = np.diff(np.r_[first, len(face)])
    bounded = np.zeros(len(flat), dtype=bool)
    bounded[piece[face[first[uses == 1]]]] = True
    if (bounded & ~flat)[piece].any():
        return np.zeros(len(faces), np.int8), "it is not closed"
    active = ~bounded[piece]
    many = first[(uses > 2) & active[face[first]]]
    if len(many):
        doubled = flat[piece[face[many]]].all()
        why = "its faces have their reverse and meet in edges of more than two" if doubled else "it is not closed"
        return np.zeros(len(faces), np.int8), why
    pairs = first[(uses == 2) & active[face[first]]]
    left, right, same = face[pairs], face[pairs + 1], up[pairs] == up[pairs + 1]
    count = len(faces)
    rows, columns = np.r_[left, left + count], np.r_[right + count * same, right + count * ~same]
    cover = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(2 * count, 2 * count))
    label = connected_components(cover, directed=False)[1]
    if (label[:count] == label[count:])[active].any():
        return np.zeros(count, np.int8), "its faces can't be wound consistently"
    signs = np.where(label[:count] < label[count:], 1, -1).astype(np.int8)
    return np.where(active, signs, 0), None
