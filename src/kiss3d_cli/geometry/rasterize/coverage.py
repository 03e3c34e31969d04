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
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.geometry.rasterize.chunks import chunk_size, expand, ranges

EMPTY = torch.iinfo(torch.int64).max
FACE_BITS = 31
FACE_MASK = (1 << FACE_BITS) - 1

# The order of three vertices by y, from the outcomes of (y0 <= y1, y1 <= y2, y0 <= y2) as bits 4, 2, 1.
# (True, True, False) and (False, False, True) can't happen.
ORDER_BY_Y = ((2, 1, 0), (0, 1, 2), (1, 2, 0), (1, 0, 2), (2, 0, 1), (0, 2, 1), (0, 1, 2), (0, 1, 2))


@dataclass(frozen=True)
class _Edges:
    """Edges of triangles, each from its upper to its lower end: all top-bottom, all top-mid, all mid-bottom."""

    x: Float[Tensor, " E"]
    y: Float[Tensor, " E"]
    inverse_w: Float[Tensor, " E"]
    dx: Float[Tensor, " E"]
    """Change of x from one row to the next."""
    dinverse_w: Float[Tensor, " E"]

    def crossing(self, edge: Int[Tensor, " S"], y: Float[Tensor, " S"]) -> tuple[Tensor, Tensor]:
        """x and 1/w where edges meet the row centres y."""
        down = y - self.y.index_select(0, edge)
        x = self.x.index_select(0, edge) + down * self.dx.index_select(0, edge)
        return x, self.inverse_w.index_select(0, edge) + down * self.dinverse_w.index_select(0, edge)


def visible_faces(
    clip: Float[Tensor, "N 4"], faces: Int[Tensor, "F 3"], owner: Int[Tensor, " F"], size: tuple[int, int]
) -> Int[Tensor, " P"]:
    """The face that one view shows at every pixel centre, -1 where it shows none.

    Args:
        clip: clip-space vertices; every face must lie in front of the camera (w > 0).
        owner: the number to report for each face, below 2^31.
        size: (H, W) pixels.
    """
    height, width = size
    w = clip[:, 3]
    x = (clip[:, 0] / w + 1) * (0.5 * width)
    y = (1 - clip[:, 1] / w) * (0.5 * height)
    # The first row at or below each vertex decides, as an integer, which edges a row crosses: no rounding can differ.
    row_of = (y - 0.5).ceil().clamp(0, height).long()
    column_of = (x - 0.5).ceil().clamp(0, width).long()
    nearest = torch.full((height * width,), EMPTY, dtype=torch.int64, device=clip.device)
    vertices = _Vertices(x, y, 1 / w, row_of)
    chunk = chunk_size(clip.device)
    for start in range(0, faces.shape[0], chunk):
        part, number = faces[start : start + chunk], owner[start : start + chunk]
        touched = _crosses_a_centre(row_of, part) & _crosses_a_centre(column_of, part)
        kept = touched.nonzero()[:, 0]
        _draw_faces(nearest, vertices, part.index_select(0, kept), number.index_select(0, kept), width)
    return torch.where(nearest == EMPTY, -1, nearest & FACE_MASK)


@dataclass(frozen=True)
class _Vertices:
    x: Float[Tensor, " N"]
    y: Float[Tensor, " N"]
    inverse_w: Float[Tensor, " N"]
    row: Int[Tensor, " N"]


def _crosses_a_centre(first: Int[Tensor, " N"], faces: Int[Tensor, "F 3"]) -> Tensor:
    a, b, c = (first.index_select(0, corner) for corner in faces.unbind(1))
    return (a != b) | (b != c)


def _draw_faces(
    nearest: Int[Tensor, " P"], vertices: _Vertices, faces: Int[Tensor, "F 3"], owner: Int[Tensor, " F"], width: int
) -> None:
    """Writes faces into `nearest`, in place."""
    a, b, c = (vertices.y.index_select(0, corner) for corner in faces.unbind(1))
    case = (a <= b).long() * 4 + (b <= c).long() * 2 + (a <= c).long()
    order = torch.tensor(ORDER_BY_Y, device=faces.device).index_select(0, case)
    top, mid, bottom = faces.gather(1, order).unbind(1)
    edges = _edges(vertices, torch.cat([top, top, mid]), torch.cat([bottom, mid, bottom]))
    first, middle, last = (vertices.row.index_select(0, corner) for corner in (top, mid, bottom))
    counts = last - first
    for start, stop in ranges(counts, chunk_size(faces.device)):
        triangle, offset = expand(counts[start:stop])
        triangle = triangle + start
        row = first.index_select(0, triangle) + offset
        below_mid = row >= middle.index_select(0, triangle)
        y = row.to(edges.y.dtype) + 0.5
        long_x, long_inverse = edges.crossing(triangle, y)
        short_x, short_inverse = edges.crossing(triangle + (1 + below_mid.long()) * faces.shape[0], y)
        swap = short_x < long_x
        _draw_spans(
            nearest,
            owner.index_select(0, triangle),
            row * width,
            torch.where(swap, short_x, long_x),
            torch.where(swap, long_x, short_x),
            torch.where(swap, short_inverse, long_inverse),
            torch.where(swap, long_inverse, short_inverse),
            width,
        )


def _edges(vertices: _Vertices, upper: Int[Tensor, " E"], lower: Int[Tensor, " E"]) -> _Edges:
    x, y, inverse = (a.index_select(0, upper) for a in (vertices.x, vertices.y, vertices.inverse_w))
    height = vertices.y.index_select(0, lower) - y
    # An edge without height crosses no row centre; its slopes are never used.
    height = torch.where(height > 0, height, 1)
    dx = (vertices.x.index_select(0, lower) - x) / height
    return _Edges(x, y, inverse, dx, (vertices.inverse_w.index_select(0, lower) - inverse) / height)


def _draw_spans(
    nearest: Int[Tensor, " P"],
    owner: Int[Tensor, " S"],
    row_start: Int[Tensor, " S"],
    left: Float[Tensor, " S"],
    right: Float[Tensor, " S"],
    left_inverse: Float[Tensor, " S"],
    right_inverse: Float[Tensor, " S"],
    width: int,
) -> None:
    """Writes the pixel centres with left <= x < right of every span into `nearest`, in place."""
    first = (left - 0.5).ceil().clamp(0, width).long()
    counts = (right - 0.5).ceil().clamp(0, width).long() - first
    kept = (counts > 0).nonzero()[:, 0]
    counts, first, left = (a.index_select(0, kept) for a in (counts, first, left))
    start = left_inverse.index_select(0, kept)
    slope = (right_inverse.index_select(0, kept) - start) / (right.index_select(0, kept) - left)
    start = start + (first.to(left.dtype) + 0.5 - left) * slope
    base = row_start.index_select(0, kept) + first
    owner = owner.index_select(0, kept)
    for begin, end in ranges(counts, chunk_size(counts.device)):
        span, offset = expand(counts[begin:end])
        span = span + begin
        depth = 1 / (start.index_select(0, span) + offset.to(left.dtype) * slope.index_select(0, span))
        # Positive floats keep their order when their bits are read as integers.
        key = (depth.float().view(torch.int32).long() << FACE_BITS) | owner.index_select(0, span)
        nearest.scatter_reduce_(0, base.index_select(0, span) + offset, key, "amin")
