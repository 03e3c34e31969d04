"""Which face every pixel shows: exact scanline conversion of many small triangles at once.

A triangle is cut into spans, one for each pixel row whose centre line it crosses, and a span into pixels::

        top  .                row r crosses the long edge (top-bottom) and one of the short ones;
            / \\               its span holds the pixel centres x with left <= x < right
    row r  L---R  mid
          /  . `              vertices are ordered by y, so two triangles that share an edge compute
         . `                  the very same crossing of it: no gap and no overlap, whatever the rounding
     bottom

Left and top are inclusive, right and bottom exclusive: the top-left rule. The work is linear in faces, spans and
covered pixels. Depth is settled by a minimum over (depth, face) packed into one integer, so the result does not depend
on the order of work or the number of threads; at equal depth the lower face wins.

Work goes in chunks that fit the cache of a CPU core, because memory used again is several times faster than memory
fresh from the system; every quantity is an array of its own, because a flat gather is several times faster than one
of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.geometry.rasterize.chunks import chunk_size, expand, ranges

FACE_BITS = 32
FACE_MASK = (1 << 31) - 1
EMPTY = torch.iinfo(torch.int64).max
"""Behind everything; its lower half, which is the face, reads -1."""

# The corners on top, in the middle and at the bottom, from the outcomes of (y0 <= y1, y1 <= y2, y0 <= y2) as bits
# 4, 2, 1. (True, True, False) and (False, False, True) can't happen.
ORDER_BY_Y = ((2, 0, 1, 1, 2, 0, 0, 0), (1, 1, 2, 0, 0, 2, 1, 1), (0, 2, 0, 2, 1, 1, 2, 2))


@dataclass(frozen=True)
class _Vertices:
    """On the screen, x right and y down in pixels.

    Attributes:
        row, column: the first pixel centre at or after the vertex, int32. These integers decide which rows an edge
            crosses: no rounding can differ.
    """

    x: Float[Tensor, " N"]
    y: Float[Tensor, " N"]
    inverse_w: Float[Tensor, " N"]
    row: Int[Tensor, " N"]
    column: Int[Tensor, " N"]


@dataclass(frozen=True)
class _Edges:
    """Edges of triangles, each from its upper to its lower end: all top-bottom, all top-mid, all mid-bottom."""

    x: Float[Tensor, " E"]
    y: Float[Tensor, " E"]
    inverse_w: Float[Tensor, " E"]
    dx: Float[Tensor, " E"]
    """Change of x from one row to the next."""
    dinverse_w: Float[Tensor, " E"]

    def x_at(self, edge: Int[Tensor, " S"], y: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        """x where edges meet the row centres y."""
        return self.x.index_select(0, edge) + (y - self.y.index_select(0, edge)) * self.dx.index_select(0, edge)

    def inverse_w_at(self, edge: Int[Tensor, " S"], y: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        down = y - self.y.index_select(0, edge)
        return self.inverse_w.index_select(0, edge) + down * self.dinverse_w.index_select(0, edge)


def visible_faces(
    clip: Float[Tensor, "N 4"],
    faces: Int[Tensor, "F 3"],
    owner: Int[Tensor, " F"],
    size: tuple[int, int],
    *,
    closed: bool = False,
) -> Int[Tensor, " P"]:
    """The face that one view shows at every pixel centre, -1 where it shows none.

    Args:
        clip: clip-space vertices; every face must lie in front of the camera (w > 0).
        owner: the number to report for each face, below 2^31.
        size: (H, W) pixels.
        closed: leave out the faces that look away: on a closed surface others hide them.
    """
    height, width = size
    w = clip[:, 3]
    x = (clip[:, 0] / w + 1) * (0.5 * width)
    y = (1 - clip[:, 1] / w) * (0.5 * height)
    row, column = ((a - 0.5).ceil().clamp(0, end).int() for a, end in ((y, height), (x, width)))
    vertices = _Vertices(x, y, 1 / w, row, column)
    nearest = torch.full((height * width,), EMPTY, dtype=torch.int64, device=clip.device)
    chunk = chunk_size(clip.device)
    for start in range(0, faces.shape[0], chunk):
        corners = faces[start : start + chunk].T
        drawn = _crosses_a_centre(row, corners) & _crosses_a_centre(column, corners)
        kept = drawn.nonzero()[:, 0]
        if closed:
            kept = kept.index_select(0, _faces_viewer(vertices, corners.index_select(1, kept)).nonzero()[:, 0])
        number = owner[start : start + chunk].index_select(0, kept)
        _draw_faces(nearest, vertices, corners.index_select(1, kept), number, width)
    return nearest.int().long()


def _crosses_a_centre(first: Int[Tensor, " N"], corners: Int[Tensor, "3 F"]) -> Bool[Tensor, " F"]:
    a, b, c = (first.index_select(0, corner) for corner in corners)
    return (a != b) | (b != c)


def _faces_viewer(vertices: _Vertices, corners: Int[Tensor, "3 F"]) -> Bool[Tensor, " F"]:
    """Which run counter-clockwise as the viewer sees them; y points down."""
    (ax, bx, cx), (ay, by, cy) = ([a.index_select(0, corner) for corner in corners] for a in (vertices.x, vertices.y))
    return (bx - ax) * (cy - ay) < (cx - ax) * (by - ay)


def _draw_faces(
    nearest: Int[Tensor, " P"], vertices: _Vertices, corners: Int[Tensor, "3 F"], owner: Int[Tensor, " F"], width: int
) -> None:
    """Writes faces into `nearest`, in place."""
    a, b, c = (vertices.y.index_select(0, corner) for corner in corners)
    case = (a <= b).int() * 4 + (b <= c).int() * 2 + (a <= c).int()
    number = torch.arange(corners.shape[1], device=corners.device)
    top, mid, bottom = (
        corners.reshape(-1).index_select(0, which.index_select(0, case) * corners.shape[1] + number)
        for which in torch.tensor(ORDER_BY_Y, device=corners.device)
    )
    edges = _edges(vertices, top, mid, bottom)
    first, middle, last = (vertices.row.index_select(0, corner) for corner in (top, mid, bottom))
    counts = last - first
    for start, stop in ranges(counts, chunk_size(corners.device)):
        triangle, offset = expand(counts[start:stop])
        triangle = triangle + start
        row = first.index_select(0, triangle) + offset
        below_mid = row >= middle.index_select(0, triangle)
        short = triangle + (1 + below_mid.int()) * corners.shape[1]
        y = row.to(edges.y.dtype) + 0.5
        long_x, short_x = edges.x_at(triangle, y), edges.x_at(short, y)
        # Arithmetic, because `torch.where` on a mask without order takes ten times as long.
        left_edge = triangle + (short_x < long_x) * (short - triangle)
        left, right = torch.minimum(long_x, short_x), torch.maximum(long_x, short_x)
        begin, end = ((x - 0.5).ceil().clamp(0, width).int() for x in (left, right))
        kept = (begin < end).nonzero()[:, 0]
        triangle, short, row, left_edge, left, right, begin, end, y = (
            a.index_select(0, kept) for a in (triangle, short, row, left_edge, left, right, begin, end, y)
        )
        left_inverse = edges.inverse_w_at(left_edge, y)
        right_inverse = edges.inverse_w_at(triangle + short - left_edge, y)
        slope = (right_inverse - left_inverse) / (right - left)
        inverse = left_inverse + (begin.to(left.dtype) + 0.5 - left) * slope
        _draw_spans(nearest, owner.index_select(0, triangle), row * width + begin, end - begin, inverse, slope)


def _edges(vertices: _Vertices, top: Int[Tensor, " F"], mid: Int[Tensor, " F"], bottom: Int[Tensor, " F"]) -> _Edges:
    def ends(values: Float[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        a, b, c = (values.index_select(0, corner) for corner in (top, mid, bottom))
        return torch.cat([a, a, b]), torch.cat([c, b, c])

    (x, lower_x), (y, lower_y), (inverse, lower_inverse) = map(ends, (vertices.x, vertices.y, vertices.inverse_w))
    # An edge without height crosses no row centre; its slopes are never used.
    height = (lower_y - y).clamp_min(torch.finfo(y.dtype).tiny)
    return _Edges(x, y, inverse, (lower_x - x) / height, (lower_inverse - inverse) / height)


def _draw_spans(
    nearest: Int[Tensor, " P"],
    owner: Int[Tensor, " S"],
    base: Int[Tensor, " S"],
    counts: Int[Tensor, " S"],
    inverse: Float[Tensor, " S"],
    slope: Float[Tensor, " S"],
) -> None:
    """Writes spans of `counts` pixels from `base` on into `nearest`, in place; `inverse` is 1/w at the first."""
    for begin, end in ranges(counts, chunk_size(counts.device)):
        span, offset = expand(counts[begin:end])
        span = span + begin
        depth = 1 / (inverse.index_select(0, span) + offset.to(inverse.dtype) * slope.index_select(0, span))
        # Positive floats keep their order when their bits are read as integers.
        key = (depth.float().view(torch.int32).long() << FACE_BITS) | owner.index_select(0, span)
        nearest.scatter_reduce_(0, (base.index_select(0, span) + offset).long(), key, "amin")
