"""Polygons of any number of corners into triangles, in their own plane and exactly: concave ones too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

_FLAT = 1e-9  # of a polygon's area: a corner turned by less is straight
_TOO_LARGE = 1e100  # a coordinate whose products no longer fit
_LARGEST = 10_000  # corners of a polygon that has to be cut up ear by ear


class CrossingPolygon(ValueError):
    """A polygon has no definite surface; `number` counts the polygons from 0."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.reason = reason


def triangulate(
    vertices: Float[np.ndarray, "N 3"], counts: Int[np.ndarray, " P"], indices: Int[np.ndarray, " C"]
) -> Int[np.ndarray, "F 3"]:
    """The corners of triangles that cover polygons, in the order of the polygons.

    Triangles stay as they are. A polygon that is a fan seen from its first corner becomes that fan, else a fan from
    another corner, else its ears are clipped. A corner that repeats the one before it is left out, and what is left
    with fewer than three corners gives no triangle.

    Args:
        vertices: (N, 3).
        counts: corners of every polygon, 3 or more.
        indices: the vertices of all polygons, one after the other, all in range.

    Returns:
        (F, 3) positions in `indices`.

    Raises:
        CrossingPolygon: one crosses itself (or is too large to be tested).
    """
    counts = np.asarray(counts, dtype=np.int64)
    if (counts == 3).all():
        return np.arange(len(indices)).reshape(-1, 3)
    starts = np.cumsum(counts) - counts
    positions = np.arange(len(indices))
    repeated = _repeats(indices, counts, starts)
    if repeated.any():
        polygon = np.repeat(np.arange(len(counts)), counts)
        positions = positions[~repeated]
        counts = np.bincount(polygon[~repeated], minlength=len(counts))
        starts = np.cumsum(counts) - counts
    made = np.maximum(counts - 2, 0)
    ends = np.cumsum(made)
    corners = np.empty((int(ends[-1]), 3), dtype=np.int64)
    order = np.argsort(counts, kind="stable")
    sizes, first = np.unique(counts[order], return_index=True)
    for size, group in zip(sizes.tolist(), np.split(order, first[1:]), strict=True):
        if size < 3:
            continue
        places = positions[starts[group, None] + np.arange(size)]
        triangles = _group(vertices, indices, places, group)
        corners[(ends - made)[group, None] + np.arange(size - 2)] = triangles
    return corners


def _repeats(
    indices: Int[np.ndarray, " C"], counts: Int[np.ndarray, " P"], starts: Int[np.ndarray, " P"]
) -> np.ndarray:
    """(C,) bool: corners of polygons with more than three that name the same vertex as the corner before, around."""
    if len(indices) == 0:
        return np.zeros(0, bool)
    before = np.empty_like(indices)
    before[1:] = indices[:-1]
    before[starts] = indices[starts + counts - 1]
    return (indices == before) & np.repeat(counts > 3, counts)


def _group(
    vertices: Float[np.ndarray, "N 3"],
    indices: Int[np.ndarray, " C"],
    places: Int[np.ndarray, "P n"],
    numbers: Int[np.ndarray, " P"],
) -> Int[np.ndarray, "P n-2 3"]:
    """Triangles of polygons that all have n corners."""
    size = places.shape[1]
    if size == 3:
        return places[:, None]
    result = np.empty((len(places), size - 2, 3), dtype=np.int64)
    step = max(1, 200_000 // size)
    for start in range(0, len(places), step):
        some = slice(start, start + step)
        result[some] = _fans(vertices[indices[places[some]]].astype(np.float64), places[some], numbers[some])
    return result


def _fans(
    points: Float[np.ndarray, "P n 3"], places: Int[np.ndarray, "P n"], numbers: Int[np.ndarray, " P"]
) -> Int[np.ndarray, "P n-2 3"]:
    size = points.shape[1]
    # coordinates that are not finite are refused later, with the count of such faces
    with np.errstate(invalid="ignore", over="ignore"):
        normal = _newell(points)
        result = _fan(places)
        wrong = np.flatnonzero(_flipped(points, normal, 0))
    for origin in range(1, min(size, 8)):
        if len(wrong) == 0:
            return result
        turned = np.roll(points[wrong], -origin, 1)
        good = ~_flipped(turned, normal[wrong], 0)
        result[wrong[good]] = _fan(np.roll(places[wrong[good]], -origin, 1))
        wrong = wrong[~good]
    for polygon in wrong.tolist():
        if not (np.abs(points[polygon]) < _TOO_LARGE).all():
            continue  # such a face is refused by itself, with the number of its like
        if size == 4 and not _is_flat(points[polygon]):
            continue  # a folded quad: the diagonal from its first corner, as everywhere
        ears = _clip(points[polygon], normal[polygon], int(numbers[polygon]))
        result[polygon] = places[polygon][ears]
    return result


def _fan(places: Int[np.ndarray, "P n"]) -> Int[np.ndarray, "P n-2 3"]:
    if places.shape[1] == 4:  # two triangles that start at the ends of the diagonal, as trimesh has it
        return places[:, [[0, 1, 2], [2, 3, 0]]]
    return np.stack([places[:, :1].repeat(places.shape[1] - 2, 1), places[:, 1:-1], places[:, 2:]], -1)


def _newell(points: Float[np.ndarray, "P n 3"]) -> Float[np.ndarray, "P 3"]:
    """Area vectors (Newell): half the sum of the cross products around the first corner."""
    spokes = points[:, 1:] - points[:, :1]
    return np.cross(spokes[:, :-1], spokes[:, 1:]).sum(1) / 2


def _flipped(points: Float[np.ndarray, "P n 3"], normal: Float[np.ndarray, "P 3"], origin: int) -> np.ndarray:
    """(P,) bool: the fan from a corner turns a triangle over, or goes around more than once."""
    spokes = np.delete(points, origin, 1) - points[:, origin : origin + 1]
    cross = np.cross(spokes[:, :-1], spokes[:, 1:])
    square = (normal**2).sum(-1)
    turn = np.einsum("pij,pj->pi", cross, normal)
    slack = _FLAT * np.maximum(square[:, None], 0)
    flipped = (turn < -slack).any(1)
    # a polygon without area: only one whose triangles have none either is harmless
    loose = square <= (_FLAT * np.linalg.norm(cross, axis=-1).sum(1)) ** 2
    flipped |= loose & (np.linalg.norm(cross, axis=-1).max(1) > _FLAT * (spokes**2).sum(-1).max(1))
    if points.shape[1] > 5:
        reach = (spokes**2).sum(-1)
        flipped |= (reach <= _FLAT * _FLAT * reach.max(1, keepdims=True)).any(1)  # a turn back could hide there
        along = np.einsum("pij,pij->pi", spokes[:, :-1], spokes[:, 1:])
        across = turn / np.sqrt(np.maximum(square, 1e-300))[:, None]
        flipped |= np.arctan2(np.maximum(across, 0), along).sum(1) > 2 * np.pi - 1e-6
    return flipped


def _is_flat(quad: Float[np.ndarray, "4 3"]) -> bool:
    edges = quad[1:] - quad[0]
    return bool(abs(np.linalg.det(edges)) <= 1e-6 * np.prod(np.linalg.norm(edges, axis=1)))


def _clip(points: Float[np.ndarray, "n 3"], normal: Float[np.ndarray, " 3"], number: int) -> Int[np.ndarray, "n-2 3"]:
    """Ears of one polygon in the plane of its area vector, all turned as the polygon is."""
    length = float(np.linalg.norm(normal))
    if not length > 0:
        raise CrossingPolygon(number, "crosses itself, so that it has no definite surface")
    if len(points) > _LARGEST:
        raise CrossingPolygon(number, f"has {len(points)} corners and is not convex")
    axis = np.eye(3)[np.abs(normal).argmin()]
    right = np.cross(axis, normal / length)
    right /= np.linalg.norm(right)
    up = np.cross(normal / length, right)
    flat = (points - points[0]) @ np.stack([right, up], 1)
    if length > _hull_area(flat) * (1 + 1e-9) or _crosses(flat):
        raise CrossingPolygon(number, "crosses itself, so that it has no definite surface")
    ears = _ears(flat, length)
    if ears is None:
        raise CrossingPolygon(number, "touches or crosses itself, so that it has no definite surface")
    return ears


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
    """Twice the signed areas of triangles in the plane."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _hull_area(flat: Float[np.ndarray, "n 2"]) -> float:
    """Of the convex hull, or more where that is cheaper to say; a polygon that is larger goes around twice."""
    from scipy.spatial import ConvexHull, QhullError

    box = float(np.prod(np.ptp(flat, 0)))
    corner = np.roll(flat, -1, 0)
    if abs(float((flat[:, 0] * corner[:, 1] - corner[:, 0] * flat[:, 1]).sum())) <= box:
        return box
    try:
        return float(ConvexHull(flat).volume)
    except QhullError:
        return box


def _crosses(flat: Float[np.ndarray, "n 2"]) -> bool:
    """Two edges cross at a point inside both."""
    a, b = flat, np.roll(flat, -1, 0)
    slack = 1e-12 * float(np.ptp(flat, 0).max()) ** 2
    step = max(1, 2_000_000 // len(flat))
    for start in range(0, len(flat), step):
        p, q = a[start : start + step, None], b[start : start + step, None]
        one, two = _turn(p, q, a[None]), _turn(p, q, b[None])
        three, four = _turn(a[None], b[None], p), _turn(a[None], b[None], q)
        apart = [np.abs(value) > slack for value in (one, two, three, four)]
        if bool(((one * two < 0) & (three * four < 0) & apart[0] & apart[1] & apart[2] & apart[3]).any()):
            return True
    return False


def _ears(flat: Float[np.ndarray, "n 2"], area: float) -> Int[np.ndarray, "n-2 3"] | None:
    """Clip ears (Meisters 1975); None if at some point there is none."""
    left, right = np.arange(len(flat)) - 1, (np.arange(len(flat)) + 1) % len(flat)
    left[0] = len(flat) - 1
    alive = np.ones(len(flat), bool)
    slack = _FLAT * area
    triangles: list[tuple[int, int, int]] = []
    tip, tried, remaining = 0, 0, len(flat)
    allow_flat = False
    while remaining > 3:
        before, after = int(left[tip]), int(right[tip])
        if _is_ear(flat, alive, before, tip, after, slack, allow_flat):
            triangles.append((before, tip, after))
            right[before], left[after] = after, before
            alive[tip] = False
            remaining, tried, allow_flat = remaining - 1, 0, False
            tip = int(right[after])  # not the next one: long slivers from one corner are avoided
            continue
        tip, tried = after, tried + 1
        if tried > remaining:
            if allow_flat:
                return None
            allow_flat, tried = True, 0
    before, after = int(left[tip]), int(right[tip])
    if _turn(flat[before], flat[tip], flat[after]) < -slack:
        return None
    triangles.append((before, tip, after))
    return np.array(triangles)


def _is_ear(
    flat: Float[np.ndarray, "n 2"], alive: np.ndarray, before: int, tip: int, after: int, slack: float, flat_too: bool
) -> bool:
    a, b, c = flat[before], flat[tip], flat[after]
    turn = float(_turn(a, b, c))
    if turn <= slack:  # straight corners come last: an ear there has no area
        return flat_too and turn >= -slack
    others = flat[alive]
    inside = (_turn(a, b, others) >= -slack) & (_turn(b, c, others) >= -slack) & (_turn(c, a, others) >= -slack)
    corner = np.zeros(len(others), bool)
    for point in (a, b, c):
        corner |= ((others - point) ** 2).sum(1) <= slack * _FLAT
    return not bool((inside & ~corner).any())


def crossing_message(error: CrossingPolygon, name: Callable[[int], str]) -> tuple[str, str]:
    """Cause and hint of a refusal."""
    hint = "triangulate the mesh where it was made (Blender: Ctrl+T in edit mode) and export it again"
    return f"{name(error.number)} {error.reason}", hint
