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
SHEET_CLEARANCE = 0.2
"""The same for the sheets, whose rims would have teeth where long and short triangles alternate."""


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


def crossings(coverage: Float[np.ndarray, "H W"], axis: int, clearance: float = CLEARANCE) -> Float[np.ndarray, "h w"]:
    """Where the outline crosses the grid edges along an axis, in pixels from the edge's first end; never closer than
    the clearance to either."""
    first, second = np.swapaxes(coverage, 0, axis)[:-1], np.swapaxes(coverage, 0, axis)[1:]
    span = second - first
    apart = (first > LEVEL) != (second > LEVEL)
    at = (LEVEL - first) / np.where(apart, span, 1)
    return np.asarray(np.swapaxes(at.clip(clearance, 1 - clearance), 0, axis))


def double_sheet(coverage: Float[np.ndarray, "H W"], levels: int = 0) -> DoubleSheet:
    """Triangulate the region where the coverage is over one half, with linear interpolation (marching squares).

    Args:
        coverage: in [0, 1]; its outermost rows and columns must be at most one half. Pixels that touch at a corner
            are connected.
        levels: far from the outline squares are put together to blocks of up to 2^levels pixels a side. The outline
            is the same for any number, and so is the connectivity.
    """
    rows, columns = coverage.shape
    inside = coverage > LEVEL
    assert not np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).any()
    blocks = _blocks(inside, levels)
    used = _used(inside, blocks)
    count = int(used.sum())
    pixel = np.full((rows, columns), -1)
    pixel[used] = np.arange(count)
    across = inside[:, :-1] != inside[:, 1:]
    down = inside[:-1] != inside[1:]
    # vertices: front sheet, back sheet, outline on horizontal grid edges, outline on vertical ones
    on_across = np.full(across.shape, -1)
    on_across[across] = 2 * count + np.arange(across.sum())
    on_down = np.full(down.shape, -1)
    on_down[down] = 2 * count + int(across.sum()) + np.arange(down.sum())

    row, column = np.nonzero(used)
    centers = np.stack([column + 0.5, row + 0.5], -1)
    across_row, across_column = np.nonzero(across)
    down_row, down_column = np.nonzero(down)
    points = np.concatenate(
        [
            centers,
            centers,
            np.stack([across_column + 0.5 + crossings(coverage, 1, SHEET_CLEARANCE)[across], across_row + 0.5], -1),
            np.stack([down_column + 0.5, down_row + 0.5 + crossings(coverage, 0, SHEET_CLEARANCE)[down]], -1),
        ]
    )
    index = np.arange(rows * columns).reshape(rows, columns)
    nearest_across = np.where(inside[:, :-1], index[:, :-1], index[:, 1:])[across]
    nearest_down = np.where(inside[:-1], index[:-1], index[1:])[down]
    own = index[used]
    side = np.repeat([1, -1, 0], [count, count, len(points) - 2 * count])

    single = ~_enlarged(blocks[1], 2, (rows - 1, columns - 1)) if len(blocks) > 1 else np.ones_like(inside[1:, 1:])
    front = np.concatenate([_triangles(inside, pixel, on_across, on_down, single), _fans(pixel, blocks)])
    outline = front >= 2 * count
    back = np.where(outline, front, front + count)[:, ::-1]
    faces = np.concatenate([front, back]).astype(np.int64)
    return DoubleSheet(points, side, np.concatenate([own, own, nearest_across, nearest_down]), faces)


def _blocks(inside: Bool[np.ndarray, "H W"], levels: int) -> list[np.ndarray]:
    """For each level k, which blocks of 2^k x 2^k squares are kept whole or are part of a larger one that is.

    A block needs all eight blocks around it to be made of blocks half its size, so that a block has neighbours of its
    own size, of half and of double alone, and sizes grow away from the outline.
    """
    solid = inside[:-1, :-1] & inside[:-1, 1:] & inside[1:, :-1] & inside[1:, 1:]
    found = [solid]
    for _ in range(levels):
        below = found[-1]
        below = np.pad(below, ((0, len(below) % 2), (0, below.shape[1] % 2)))
        quarters = below[::2, ::2] & below[::2, 1::2] & below[1::2, ::2] & below[1::2, 1::2]
        found.append(ndimage.binary_erosion(quarters, np.ones((3, 3), bool)))
        if not found[-1].any():
            break
    return found


def _enlarged(blocks: np.ndarray, factor: int, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(np.repeat(np.repeat(blocks, factor, 0), factor, 1)[: size[0], : size[1]])


def _leaves(blocks: list[np.ndarray], level: int) -> np.ndarray:
    """The blocks of a level that are no part of a larger one."""
    own = blocks[level]
    return np.asarray(own & ~_enlarged(blocks[level + 1], 2, own.shape) if level + 1 < len(blocks) else own)


def _used(inside: Bool[np.ndarray, "H W"], blocks: list[np.ndarray]) -> Bool[np.ndarray, "H W"]:
    """The pixels that are corners or middles of blocks, or next to squares that are no part of one."""
    if len(blocks) < 2:
        return inside
    single = np.pad(~_enlarged(blocks[1], 2, (inside.shape[0] - 1, inside.shape[1] - 1)), 1, constant_values=True)
    used = inside & (single[:-1, :-1] | single[:-1, 1:] | single[1:, :-1] | single[1:, 1:])
    for level in range(1, len(blocks)):
        row, column = np.nonzero(_leaves(blocks, level))
        side = 2**level
        for down, right in ((0, 0), (0, side), (side, 0), (side, side), (side // 2, side // 2)):
            used[row * side + down, column * side + right] = True
    return used


def _fans(pixel: Int[np.ndarray, "H W"], blocks: list[np.ndarray]) -> Int[np.ndarray, "F 3"]:
    """The front sheet's triangles in blocks of two and more squares a side: fans about their middles.

    A side that smaller blocks touch has a vertex in its middle.
    """
    found: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
    for level in range(1, len(blocks)):
        row, column = np.nonzero(_leaves(blocks, level))
        side, half = 2**level, 2 ** (level - 1)
        whole = np.pad(blocks[level], 1)
        top, left = row * side, column * side
        middle = pixel[top + half, left + half]
        # counter-clockwise for a viewer to whom rows go down, from the top left: each side's start, middle, end
        ring = [(0, 0), (half, 0), (side, 0), (side, half), (side, side), (half, side), (0, side), (0, half)]
        at = [pixel[top + down, left + right] for down, right in ring]
        for number, (down, right) in enumerate(((0, -1), (1, 0), (0, 1), (-1, 0))):
            start, between, end = at[2 * number], at[2 * number + 1], at[(2 * number + 2) % 8]
            split = ~whole[row + 1 + down, column + 1 + right]
            found.append(np.stack([middle, start, end], -1)[~split])
            found.append(np.stack([middle, start, between], -1)[split])
            found.append(np.stack([middle, between, end], -1)[split])
    return np.concatenate(found)


def _triangles(
    inside: Bool[np.ndarray, "H W"],
    pixel: Int[np.ndarray, "H W"],
    on_across: Int[np.ndarray, "H w"],
    on_down: Int[np.ndarray, "h W"],
    wanted: Bool[np.ndarray, "h w"],
) -> Int[np.ndarray, "F 3"]:
    """The front sheet's triangles in the wanted squares, counter-clockwise for a viewer to whom rows go down."""
    # Around each square of four pixel centres, counter-clockwise from the top left:
    #   corner 0 --- edge 3 --- corner 3
    #   edge 0                   edge 2
    #   corner 1 --- edge 1 --- corner 2
    corners = np.stack([pixel[:-1, :-1], pixel[1:, :-1], pixel[1:, 1:], pixel[:-1, 1:]])
    edges = np.stack([on_down[:, :-1], on_across[1:], on_down[:, 1:], on_across[:-1]])
    case = inside[:-1, :-1] + 2 * inside[1:, :-1] + 4 * inside[1:, 1:] + 8 * inside[:-1, 1:]
    ring = np.stack([corners, edges], 1).reshape(8, *case.shape)  # corner 0, edge 0, corner 1, edge 1, ...
    found: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
    for pattern in range(1, 16):
        here = (case == pattern) & wanted
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


def without_specks(coverage: Float[np.ndarray, "H W"], least: int = 12) -> Float[np.ndarray, "H W"]:
    """The coverage without pieces that are nowhere two pixels wide and have fewer than `least` pixels.

    What a matting network leaves behind is such; where there is nothing else, the largest piece stays.
    """
    inside = coverage > LEVEL
    labels, count = ndimage.label(inside, np.ones((3, 3)))
    if count <= 1:
        return coverage
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    kept = areas >= least
    kept[labels[ndimage.binary_opening(inside, np.ones((2, 2), bool))]] = True
    kept[1 + int(areas[1:].argmax())] = True
    kept[0] = True
    return np.where(kept[labels], coverage, 0)
