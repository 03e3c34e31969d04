"""Silhouettes drawn with the share of the pixel that they cover, so that the picture has a gradient there.

The blending is that of Laine et al. 2020, "Modular primitives for high-performance differentiable rendering", section
3.4: where a silhouette crosses the line between two neighbouring pixel centres, the nearer surface reaches beyond its
pixel or falls short of it, and one of the two takes a share of the other's colour::

    o ----------|--- x      the crossing is more than half the way to x: x takes 'way - 0.5' of o's colour
    o ---|---------- x      less than half: o takes '0.5 - way' of x's colour
    nearer           farther

The crossings are found otherwise. There, pixels are asked for the edges of the face that they show; here, all
silhouettes of the mesh (silhouette.py) are walked along the rows and columns of pixel centres. Thus each crossing is
met once, however small the faces are. Of several between one pair of centres the outermost counts: the others lie
within the shape. An edge counts in rows if it is steep and in columns if it is flat, else its gradient would be there
twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.rasterize.chunks import expand
from kiss3d_cli.geometry.rasterize.fragments import Fragments
from kiss3d_cli.geometry.rasterize.silhouette import Edges, Silhouette, mesh_edges, silhouette_edges

_INDEX_BITS = 32


def antialias(
    image: Float[Tensor, "V H W C"],
    clip: Float[Tensor, "V N 4"],
    faces: Int[Tensor, "F 3"],
    fragments: Fragments,
    edges: Edges | None = None,
) -> Float[Tensor, "V H W C"]:
    """Blends neighbouring pixels across silhouettes. Differentiable in the image and in the clip-space vertices.

    Args:
        image: any picture of the fragments, such as an interpolated attribute or the mask.
        edges: `mesh_edges(faces)`, to save finding them again while the faces stay.
    """
    if image.shape[:3] != fragments.face_id.shape:
        raise BadInput(f"an image of shape {tuple(image.shape)} does not fit fragments of {fragments.face_id.shape}")
    if faces.shape[0] == 0 or image.shape[0] == 0:
        return image
    height, width = image.shape[1:3]
    outline = silhouette_edges(clip, faces, mesh_edges(faces) if edges is None else edges)
    segments = _Segments.of(clip, outline, (height, width))
    crossings = _crossings(segments.detach(), fragments)
    way = segments.way(crossings)
    beyond = crossings.way > 0.5
    target = torch.where(beyond, crossings.farther, crossings.nearer)
    source = torch.where(beyond, crossings.nearer, crossings.farther)
    flat = image.reshape(-1, image.shape[3])
    change = (flat.index_select(0, source) - flat.index_select(0, target)) * (way - 0.5).abs()[:, None]
    return flat.index_add(0, target, change).reshape(image.shape)


@dataclass(frozen=True)
class _Crossings:
    """Where silhouettes cross the lines between neighbouring pixel centres.

    Attributes:
        segment: (K,) the silhouette edge.
        in_row: (K,) whether the two pixels are neighbours in a row; else in a column.
        nearer: (K,) flat index (into V*H*W) of the pixel on the side of the faces.
        farther: (K,) flat index of the other.
        line: (K,) row of the pixels if they are neighbours in a row, else their column.
        way: (K,) from the nearer centre to the crossing, in [0, 1].
    """

    segment: Int[Tensor, " K"]
    in_row: Bool[Tensor, " K"]
    nearer: Int[Tensor, " K"]
    farther: Int[Tensor, " K"]
    line: Int[Tensor, " K"]
    way: Float[Tensor, " K"]


@dataclass(frozen=True)
class _Segments:
    """Silhouette edges on the screen, x right and y down in pixels.

    Attributes:
        x, y: (2, S) of their ends.
        inverse_w: (2, S) of their ends.
        view: (S,)
        side: (S,) 1 if the faces lie to the left of the way from the first to the second end, as a walker sees it.
        there: (S,) False for those wholly behind the near plane.
    """

    x: Float[Tensor, "2 S"]
    y: Float[Tensor, "2 S"]
    inverse_w: Float[Tensor, "2 S"]
    view: Int[Tensor, " S"]
    side: Int[Tensor, " S"]
    there: Bool[Tensor, " S"]

    @staticmethod
    def of(clip: Float[Tensor, "V N 4"], outline: Silhouette, size: tuple[int, int]) -> _Segments:
        height, width = size
        rows = outline.ends.T + outline.view * clip.shape[1]
        a, b = clip.reshape(-1, 4).index_select(0, rows.reshape(-1)).reshape(2, -1, 4)
        front_a, front_b = a[:, 2] + a[:, 3], b[:, 2] + b[:, 3]
        there = (front_a >= 0) | (front_b >= 0)
        cut = (front_a < 0) ^ (front_b < 0)
        if bool(cut.any()):
            share = front_a / torch.where(cut, front_a - front_b, 1)
            middle = a + share[:, None] * (b - a)
            a = torch.where((cut & (front_a < 0))[:, None], middle, a)
            b = torch.where((cut & (front_b < 0))[:, None], middle, b)
        ends = torch.stack([a, b])
        inverse = 1 / torch.where(there, ends[..., 3], 1)
        x = (ends[..., 0] * inverse + 1) * (0.5 * width)
        y = (1 - ends[..., 1] * inverse) * (0.5 * height)
        return _Segments(x, y, inverse, outline.view, outline.side, there)

    def detach(self) -> _Segments:
        return _Segments(self.x.detach(), self.y.detach(), self.inverse_w.detach(), self.view, self.side, self.there)

    def way(self, crossings: _Crossings) -> Float[Tensor, " K"]:
        """`crossings.way` again, with its gradient."""
        x, y = self.x.index_select(1, crossings.segment), self.y.index_select(1, crossings.segment)
        across = torch.where(crossings.in_row, x, y)
        along = torch.where(crossings.in_row, y, x)
        share = (crossings.line.to(x.dtype) + 0.5 - along[0]) / (along[1] - along[0])
        position = across[0] + share * (across[1] - across[0])
        # Both are positions of the same crossing; only the way is measured from the other end.
        towards = torch.where(crossings.nearer < crossings.farther, 1, -1)
        return crossings.way + towards * (position - position.detach())


def _crossings(segments: _Segments, fragments: Fragments) -> _Crossings:
    """The crossing that counts between each pair of neighbouring pixels."""
    found = [_met(segments, fragments, in_row) for in_row in (True, False)]
    every = _Crossings(*(torch.cat([getattr(one, name) for one in found]) for name in _Crossings.__dataclass_fields__))
    pair = torch.minimum(every.nearer, every.farther) * 2 + every.in_row
    groups, group = torch.unique(pair, return_inverse=True)
    # Positive floats keep their order when their bits are read as integers; the number settles ties.
    rank = (every.way.float().view(torch.int32).long() << _INDEX_BITS) | torch.arange(len(pair), device=pair.device)
    best = torch.zeros_like(groups).scatter_reduce_(0, group, rank, "amax") & ((1 << _INDEX_BITS) - 1)
    segment = every.segment.index_select(0, best)
    run = (segments.x[1] - segments.x[0]).abs().index_select(0, segment)
    rise = (segments.y[1] - segments.y[0]).abs().index_select(0, segment)
    best = best[(rise >= run) == every.in_row.index_select(0, best)]
    return _Crossings(*(getattr(every, name).index_select(0, best) for name in _Crossings.__dataclass_fields__))


def _met(segments: _Segments, fragments: Fragments, in_row: bool) -> _Crossings:
    """All crossings in rows, or all in columns, whose faces are on the nearer pixel's side and hide the farther one."""
    _, height, width = fragments.face_id.shape
    across, along = (segments.x, segments.y) if in_row else (segments.y, segments.x)
    lines, length = (height, width) if in_row else (width, height)
    first = (along.amin(0) - 0.5).ceil().clamp(0, lines).long()
    counts = (along.amax(0) - 0.5).ceil().clamp(0, lines).long() - first
    segment, offset = expand(torch.where(segments.there, counts, 0))
    line = first.index_select(0, segment) + offset
    begin, end = along.index_select(1, segment)
    share = (line.to(along.dtype) + 0.5 - begin) / (end - begin)
    start, stop = across.index_select(1, segment)
    position = start + share * (stop - start)
    start, stop = segments.inverse_w.index_select(1, segment)
    depth = 1 / (start + share * (stop - start))
    before = (position - 0.5).ceil().clamp(0, length).long() - 1
    # Faces to the left (as a walker sees it) of a way down are on the right in the row; of a way to the right, above.
    turn = segments.side.index_select(0, segment) * torch.sign(end - begin).long()
    faces_after = turn > 0 if in_row else turn < 0
    view = segments.view.index_select(0, segment)
    inner = before + faces_after
    outer = before + ~faces_after
    base = view * (height * width) + line * (width if in_row else 1)
    step = 1 if in_row else width
    kept = ((before >= 0) & (before + 1 < length)).nonzero()[:, 0]
    nearer, farther = (base + inner * step).index_select(0, kept), (base + outer * step).index_select(0, kept)
    surface = torch.where(fragments.mask, fragments.depth.detach(), torch.inf).reshape(-1)
    behind = surface.index_select(0, farther)
    hides = (surface.index_select(0, nearer) < behind) & (depth.index_select(0, kept) < behind)
    face = fragments.face_id.reshape(-1)
    hides &= face.index_select(0, nearer) != face.index_select(0, farther)
    chosen = hides.nonzero()[:, 0]
    kept = kept.index_select(0, chosen)
    way = (inner.to(along.dtype) + 0.5 - position).abs().clamp_max(1)
    return _Crossings(
        segment.index_select(0, kept),
        torch.full_like(kept, in_row, dtype=torch.bool),
        nearer.index_select(0, chosen),
        farther.index_select(0, chosen),
        line.index_select(0, kept),
        way.index_select(0, kept),
    )
