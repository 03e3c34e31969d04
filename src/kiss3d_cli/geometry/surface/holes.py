"""Closing the holes of a mesh whose boundary is made of simple loops."""

from __future__ import annotations

import heapq

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "_ 3"]
Faces = Int[np.ndarray, "_ 3"]


def close_holes(vertices: Points, faces: Faces) -> tuple[Points, Faces]:
    """The mesh with every hole filled: ears cut off each loop, the roundest first, else a fan around its middle.

    A boundary that branches stays open; no edge that there is already is made again.

    Args:
        vertices: (N, 3).
        faces: (F, 3), oriented, no edge with more than two faces, no face without a neighbour.
    """
    if len(faces) == 0:
        return vertices, faces
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    span = int(faces.max()) + 1
    key, reverse = start * span + end, end * span + start
    is_open = ~np.isin(key, reverse)
    taken = {*np.minimum(key, reverse).tolist()}
    new_faces: list[tuple[int, int, int]] = []
    middles: list[Float[np.ndarray, 3]] = []
    for loop in _loops(start[is_open], end[is_open]):
        patch = _ears(vertices, loop, taken, span)
        if patch is None:
            centre = len(vertices) + len(middles)
            middles.append(vertices[loop].mean(0))
            patch = [(b, a, centre) for a, b in zip(loop, [*loop[1:], loop[0]], strict=True)]
        new_faces.extend(patch)
    if not new_faces:
        return vertices, faces
    points = np.concatenate([vertices, np.array(middles).reshape(-1, 3)])
    return points, np.concatenate([faces, np.array(new_faces, faces.dtype)])


def _loops(start: Int[np.ndarray, " B"], end: Int[np.ndarray, " B"]) -> list[list[int]]:
    """Closed walks of three and more vertices along the boundary, each in the direction of its faces."""
    once = np.unique(start, return_counts=True)
    branching = set(once[0][once[1] > 1].tolist())
    following = {a: b for a, b in zip(start.tolist(), end.tolist(), strict=True) if a not in branching}
    loops = []
    while following:
        first, at = following.popitem()
        loop = [first]
        while at in following:
            loop.append(at)
            at = following.pop(at)
        if at == first and len(loop) > 2:
            loops.append(loop)
    return loops


def _ears(vertices: Points, loop: list[int], taken: set[int], span: int) -> list[tuple[int, int, int]] | None:
    """Triangles over a loop, none of whose inner edges is in `taken` (to which they are added); None if stuck."""
    before = dict(zip(loop, [loop[-1], *loop[:-1]], strict=True))
    after = dict(zip(loop, [*loop[1:], loop[0]], strict=True))
    size = len(loop)
    made: list[int] = []
    patch: list[tuple[int, int, int]] = []

    def ear(tip: int) -> tuple[float, int, int, int]:
        a, b = before[tip], after[tip]
        corners = vertices[[a, tip, b]]
        sides = corners - np.roll(corners, 1, 0)
        area = float(np.linalg.norm(np.cross(sides[1], sides[2])))
        round_part = float((sides**2).sum())
        return (round_part * round_part / area if area > 0 else np.inf, tip, a, b)

    queue = [ear(tip) for tip in loop]
    heapq.heapify(queue)
    while size > 3 and queue:
        _, tip, a, b = heapq.heappop(queue)
        if before.get(tip) != a or after.get(tip) != b:
            continue
        edge = min(a, b) * span + max(a, b)
        if edge in taken:
            continue
        taken.add(edge)
        made.append(edge)
        patch.append((b, tip, a))
        after[a], before[b] = b, a
        del before[tip], after[tip]
        size -= 1
        heapq.heappush(queue, ear(a))
        heapq.heappush(queue, ear(b))
    if size > 3:
        taken.difference_update(made)
        return None
    a = next(iter(after))
    patch.append((after[after[a]], after[a], a))
    return patch
