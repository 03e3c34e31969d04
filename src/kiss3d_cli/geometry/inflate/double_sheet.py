"""A region of the plane as a closed surface: two sheets, sewn together along the region's outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

LEVEL = 0.5
"""The outline is where the coverage crosses this."""
CLEARANCE = 0.1
"""Least distance of the outline from a pixel's centre, in pixels: keeps triangles from shrinking to nothing."""


@dataclass(frozen=True)
class DoubleSheet:
    """A closed triangulated surface over a pixel grid, of two sheets that meet along the region's outline.

    Every edge has two faces and every vertex one fan of them, whatever the region: an outline vertex lies on a grid
    edge between an inside and an outside pixel, so that just one piece of outline passes through it, and no edge
    but the outline's own joins two outline vertices.

    Attributes:
        points: (N, 2) column and row of each vertex, in pixels; pixel (i, j) has its centre at (j + 0.5, i + 0.5).
        side: (N,) 1 on the front sheet, -1 on the back sheet, 0 on the outline.
        pixel: (N,) row-major index of the vertex's pixel; on the outline, of the inside pixel next to it.
        faces: (F, 3) counter-clockwise seen from outside, where the front sheet faces the viewer, columns go right
            and rows go down.
    """

    points: Float[np.ndarray, "N 2"]
    side: Int[np.ndarray, " N"]
    pixel: Int[np.ndarray, " N"]
    faces: Int[np.ndarray, "F 3"]


def crossings(coverage: Float[np.ndarray, "H W"], axis: int) -> Float[np.ndarray, "h w"]:
    """Where the outline crosses the grid edges along an axis, in pixels from the edge's first end; in [0.1, 0.9]."""
    first, second = np.swapaxes(coverage, 0, axis)[:-1], np.swapaxes(coverage, 0, axis)[1:]
    span = second - first
    apart = (first > LEVEL) != (second > LEVEL)
    at = (LEVEL - first) / np.where(apart, span, 1)
    return np.asarray(np.swapaxes(at.clip(CLEARANCE, 1 - CLEARANCE), 0, axis))


def double_sheet(coverage: Float[np.ndarray, "H W"]) -> DoubleSheet:
    """Triangulate the region where the coverage is over one half, with linear interpolation (marching squares).

    Args:
        coverage: in [0, 1]; its outermost rows and columns must be at most one half. Pixels that touch at a corner
            are connected.
    """
    rows, columns = coverage.shape
    inside = coverage > LEVEL
    assert not np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).any()
    count = int(inside.sum())
    pixel = np.full((rows, columns), -1)
    pixel[inside] = np.arange(count)
    across = inside[:, :-1] != inside[:, 1:]
    down = inside[:-1] != inside[1:]
    # vertices: front sheet, back sheet, outline on horizontal grid edges, outline on vertical ones
    on_across = np.full(across.shape, -1)
    on_across[across] = 2 * count + np.arange(across.sum())
    on_down = np.full(down.shape, -1)
    on_down[down] = 2 * count + int(across.sum()) + np.arange(down.sum())

    row, column = np.nonzero(inside)
    centers = np.stack([column + 0.5, row + 0.5], -1)
    across_row, across_column = np.nonzero(across)
    down_row, down_column = np.nonzero(down)
    points = np.concatenate(
        [
            centers,
            centers,
            np.stack([across_column + 0.5 + crossings(coverage, 1)[across], across_row + 0.5], -1),
            np.stack([down_column + 0.5, down_row + 0.5 + crossings(coverage, 0)[down]], -1),
        ]
    )
    index = np.arange(rows * columns).reshape(rows, columns)
    nearest_across = np.where(inside[:, :-1], index[:, :-1], index[:, 1:])[across]
    nearest_down = np.where(inside[:-1], index[:-1], index[1:])[down]
    own = index[inside]
    side = np.repeat([1, -1, 0], [count, count, len(points) - 2 * count])

    front = _triangles(inside, pixel, on_across, on_down)
    outline = front >= 2 * count
    back = np.where(outline, front, front + count)[:, ::-1]
    faces = np.concatenate([front, back]).astype(np.int64)
    return DoubleSheet(points, side, np.concatenate([own, own, nearest_across, nearest_down]), faces)


def _triangles(
    inside: Bool[np.ndarray, "H W"],
    pixel: Int[np.ndarray, "H W"],
    on_across: Int[np.ndarray, "H w"],
    on_down: Int[np.ndarray, "h W"],
) -> Int[np.ndarray, "F 3"]:
    """The front sheet's triangles, counter-clockwise for a viewer to whom rows go down."""
    # Around each square of four pixel centres, counter-clockwise from the top left:
    #   corner 0 --- edge 3 --- corner 3
    #   edge 0                   edge 2
    #   corner 1 --- edge 1 --- corner 2
    corners = np.stack([pixel[:-1, :-1], pixel[1:, :-1], pixel[1:, 1:], pixel[:-1, 1:]])
    edges = np.stack([on_down[:, :-1], on_across[1:], on_down[:, 1:], on_across[:-1]])
    case = inside[:-1, :-1] + 2 * inside[1:, :-1] + 4 * inside[1:, 1:] + 8 * inside[:-1, 1:]
    ring = np.stack([corners, edges], 1).reshape(8, *case.shape)  # corner 0, edge 0, corner 1, edge 1, ...
    found: list[np.ndarray] = []
    for pattern in range(1, 16):
        here = case == pattern
        if not here.any():
            continue
        polygon = _polygon(pattern)
        at = ring[:, here]
        # A fan from an inside corner: no diagonal joins two outline vertices.
        fan = [(polygon[0], polygon[i], polygon[i + 1]) for i in range(1, len(polygon) - 1)]
        found += [np.stack([at[a], at[b], at[c]], -1) for a, b, c in fan]
    return np.concatenate(found)


def _polygon(pattern: int) -> list[int]:
    """The inside part of a square as positions on its ring (even: corners, odd: edges), from an inside corner on.

    Bit k of the pattern: corner k is inside. Two inside corners across a diagonal are connected.
    """
    held = [bool(pattern >> k & 1) for k in range(4)]
    ring: list[int] = []
    for k in range(4):
        if held[k]:
            ring.append(2 * k)
        if held[k] != held[(k + 1) % 4]:
            ring.append(2 * k + 1)
    # every inside corner serves: its diagonals never join two outline vertices
    at = next(i for i, position in enumerate(ring) if position % 2 == 0)
    return ring[at:] + ring[:at]


def connect(coverage: Float[np.ndarray, "H W"], *, least: float = 0.02) -> Float[np.ndarray, "H W"]:
    """The coverage with its pieces joined by narrow bars, and crumbs dropped, so that one piece is left.

    Args:
        coverage: in [0, 1].
        least: pieces below this share of the largest are dropped.
    """
    joined = coverage.copy()
    diagonal = np.ones((3, 3))
    labels, count = ndimage.label(joined > LEVEL, diagonal)
    if count <= 1:
        return joined
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    crumbs = areas < least * areas.max()
    crumbs[0] = False
    joined[crumbs[labels]] = 0
    while True:
        labels, count = ndimage.label(joined > LEVEL, diagonal)
        if count <= 1:
            return joined
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        body = labels == areas.argmax()
        distance, nearest = ndimage.distance_transform_edt(~body, return_indices=True)
        others = (labels > 0) & ~body
        at = np.unravel_index(np.where(others, distance, np.inf).argmin(), labels.shape)
        to = nearest[:, at[0], at[1]]
        steps = int(np.abs(np.asarray(at) - to).max()) + 1
        line = np.linspace(at, to, 2 * steps).round().astype(int)
        bar = np.zeros(labels.shape, bool)
        bar[line[:, 0], line[:, 1]] = True
        bar = ndimage.binary_dilation(bar, np.ones((3, 3), bool))
        bar[[0, -1]] = False
        bar[:, [0, -1]] = False
        joined[bar] = np.maximum(joined[bar], 1.0)
