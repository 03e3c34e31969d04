"""One round of making a mesh closed, oriented and manifold: stitch, orient, cut apart what crosses, close holes.

The order is that of Gueziec et al. 2001, "Cutting and stitching: converting sets of polygons to manifold surfaces". A
round works on the faces alone and may leave or make a fault in rare tangles; the next one works on its result.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kiss3d_cli.geometry.surface.holes import close_holes
from kiss3d_cli.geometry.surface.topology import unique_faces, weld

Points = Float[np.ndarray, "_ 3"]
Faces = Int[np.ndarray, "_ 3"]
Pairs = Int[np.ndarray, "_ 2"]


def mend(vertices: Points, faces: Faces) -> tuple[Points, Faces]:
    """Vertices and faces after one round; no faces where no two of them meet.

    Args:
        vertices: (N, 3), finite.
        faces: (F, 3), any triangle list.
    """
    faces = _proper(_stitched(vertices, faces))
    if len(faces) == 0:
        return vertices[:0], faces
    edges = _HalfEdges(faces)
    simple = edges.pairs_of_two()
    faces = _oriented(faces, simple)
    edges = _HalfEdges(faces)
    joined, left_over = _pairs_where_more_meet(vertices, edges, _pieces(len(faces), simple))
    pairs = np.concatenate([simple, joined])
    piece = _pieces(len(faces), pairs)
    # A fin, or a wall between two rooms: what found no partner at an edge and is not the body itself. Nor is a face
    # without neighbours, which only its own reverse could close.
    size = np.bincount(piece)
    kept = ~np.isin(piece, np.setdiff1d(piece[left_over], size.argmax())) & (size[piece] > 1)
    vertices, faces = _cut(vertices, faces, pairs)
    vertices, faces = _used(vertices, faces[kept])
    vertices, faces = _without_third_faces(vertices, faces)
    return close_holes(vertices, faces)


class _HalfEdges:
    """The 3 F half-edges of a triangle list, sorted by the edge that they run along.

    Half-edge h belongs to face h // 3 and runs from its corner h % 3 to the next.
    """

    def __init__(self, faces: Faces) -> None:
        self.start, self.end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
        self.across = np.roll(faces, -2, 1).reshape(-1)
        low, high = np.minimum(self.start, self.end), np.maximum(self.start, self.end)
        key = low.astype(np.int64) * (int(faces.max()) + 1) + high
        self.order = np.argsort(key, kind="stable")
        self.first = np.flatnonzero(np.r_[True, np.diff(key[self.order]) != 0])
        self.count = np.diff(np.r_[self.first, len(key)])

    def pairs_of_two(self) -> Pairs:
        """Half-edges that are alone with each other at their edge."""
        first = self.first[self.count == 2]
        return np.stack([self.order[first], self.order[first + 1]], 1)


def _stitched(vertices: Points, faces: Faces) -> Faces:
    """Faces whose open edges share vertices where these are at one place; vertices inside a surface stay apart."""
    edges = _HalfEdges(faces)
    alone = edges.order[edges.first[edges.count == 1]]
    open_ends = np.unique(np.r_[edges.start[alone], edges.end[alone]])
    _, first, place = np.unique(weld(vertices[open_ends]), return_index=True, return_inverse=True)
    target = np.arange(len(vertices))
    target[open_ends] = open_ends[first[place.reshape(-1)]]
    return target[faces]


def _proper(faces: Faces) -> Faces:
    """Without faces that name a vertex twice, and with one face over the same three."""
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    return faces[np.sort(unique_faces(faces)[0])] if len(faces) else faces


def _pieces(count: int, pairs: Pairs) -> Int[np.ndarray, " F"]:
    """The component of every face, over paired half-edges."""
    one, two = (pairs // 3).T
    graph = coo_array((np.ones(len(one), bool), (one, two)), (count, count))
    return connected_components(graph, directed=False)[1]


def _oriented(faces: Faces, pairs: Pairs) -> Faces:
    """Every component turned so that its faces agree, the fewest faces turned.

    In the double cover of the faces, each with its reverse, the two sides of an orientable component fall apart.
    """
    count, edges = len(faces), (faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1))
    one, two = pairs.T
    agree = edges[0][one] == edges[1][two]
    one, two = one // 3, two // 3
    rows = np.r_[one, one + count]
    columns = np.r_[np.where(agree, two, two + count), np.where(agree, two + count, two)]
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), (2 * count, 2 * count))
    label = connected_components(graph, directed=False)[1]
    as_they_are = np.bincount(label[:count], minlength=label.max() + 1)
    turned = as_they_are[label[count:]] > as_they_are[label[:count]]
    tie = as_they_are[label[count:]] == as_they_are[label[:count]]
    turned |= tie & (label[count:] < label[:count])
    return np.where(turned[:, None], faces[:, ::-1], faces)


def _pairs_where_more_meet(
    vertices: Points, edges: _HalfEdges, piece: Int[np.ndarray, " F"]
) -> tuple[Pairs, Int[np.ndarray, " L"]]:
    """Which half-edges belong together at edges of three and more faces, and the faces that none is left for.

    Around an edge, the solid lies between a face that runs backwards and the next that runs forwards: two bodies that
    touch there come apart. Where the count of faces is odd, the largest components have the first choice.
    """
    size = np.bincount(piece)
    pairs: list[tuple[int, int]] = []
    left: list[int] = []
    for first, count in zip(edges.first[edges.count > 2], edges.count[edges.count > 2], strict=True):
        here = edges.order[first : first + count]
        forwards = edges.start[here] < edges.end[here]
        spare = min(forwards.sum(), (~forwards).sum())
        by_size = here[np.argsort(-size[piece[here // 3]], kind="stable")]
        runs = edges.start[by_size] < edges.end[by_size]
        chosen = np.r_[by_size[runs][:spare], by_size[~runs][:spare]]
        left.extend((np.setdiff1d(here, chosen) // 3).tolist())
        pairs.extend(_around(vertices, edges, chosen))
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(left, np.int64)


def _around(vertices: Points, edges: _HalfEdges, chosen: Int[np.ndarray, " K"]) -> list[tuple[int, int]]:
    """Pairs of the chosen half-edges of one edge, as many forwards as backwards, each pair with the solid between."""
    if len(chosen) == 0:
        return []
    low, high = sorted((edges.start[chosen[0]], edges.end[chosen[0]]))
    axis = vertices[high] - vertices[low]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-300)
    arm = vertices[edges.across[chosen]] - vertices[low]
    arm = arm - (arm @ axis)[:, None] * axis
    u = arm[0] / max(float(np.linalg.norm(arm[0])), 1e-300)
    angle = np.arctan2(arm @ np.cross(axis, u), arm @ u)
    turn = chosen[np.argsort(angle, kind="stable")]
    forwards = edges.start[turn] < edges.end[turn]
    waiting: list[int] = []
    pairs: list[tuple[int, int]] = []
    for half, is_forward in [*zip(turn.tolist(), forwards, strict=True)] * 2:
        if not is_forward and half not in waiting and all(half not in pair for pair in pairs):
            waiting.append(half)
        elif is_forward and waiting and all(half not in pair for pair in pairs):
            pairs.append((waiting.pop(), half))
    return pairs


def _cut(vertices: Points, faces: Faces, pairs: Pairs) -> tuple[Points, Faces]:
    """A vertex of its own for every fan of faces that paired half-edges join around it."""
    one, two = pairs.T
    after = np.roll(np.arange(faces.size).reshape(-1, 3), -1, 1).reshape(-1)  # the corner at the end of each half-edge
    corner = faces.reshape(-1)
    links = [
        (x[same], y[same])
        for x, y in ((one, two), (one, after[two]), (after[one], two), (after[one], after[two]))
        for same in (corner[x] == corner[y],)
    ]
    rows, columns = (np.concatenate(side) for side in zip(*links, strict=True))
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), (faces.size, faces.size))
    fan = connected_components(graph, directed=False)[1]
    # A vertex with one fan keeps its number and its place in the list.
    _, first, which = np.unique(fan, return_index=True, return_inverse=True)
    owner = corner[first]
    rank = np.lexsort((first, owner))
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    return vertices[owner[rank]], place[which.reshape(-1)].reshape(-1, 3)


def _without_third_faces(vertices: Points, faces: Faces) -> tuple[Points, Faces]:
    """Without the smallest faces at edges that more than two still share: pairs that meet at both ends."""
    if len(faces) == 0:
        return vertices, faces
    edges = _HalfEdges(faces)
    if edges.count.max() <= 2:
        return vertices, faces
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    bad: Bool[np.ndarray, " F"] = np.zeros(len(faces), bool)
    for first, count in zip(edges.first[edges.count > 2], edges.count[edges.count > 2], strict=True):
        here = edges.order[first : first + count] // 3
        here = here[~bad[here]]
        bad[here[np.argsort(-area[here], kind="stable")][2:]] = True
    return _used(vertices, faces[~bad])


def _used(vertices: Points, faces: Faces) -> tuple[Points, Faces]:
    """Without the vertices that no face uses."""
    used, number = np.unique(faces, return_inverse=True)
    return vertices[used], number.reshape(-1, 3).astype(np.int64)
