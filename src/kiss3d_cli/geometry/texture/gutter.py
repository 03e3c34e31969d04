"""Texels around the charts that show what lies across their seams.

A renderer that reads at a chart's border mixes texels inside with texels outside. If those repeat the inside, colours
are off by up to half a texel, to opposite sides in the two charts of a seam: a line shows where they change steeply.
So the face across each seam is unfolded into the chart's plane, and the texels that it covers there are given the
colours that it has in its own chart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.surface.sorting import stable_order
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.fill import fill_around
from kiss3d_cli.geometry.texture.texture import sampled

_STRETCH = 4.0
"""Texels for which a chart may lay a unit across the seam, in those for a unit along it: more is a chart seen from its
edge, or a sliver."""
_REACH = 1 / 512
"""Share of the texture's side from a seam within which texels are painted: half of the space between charts."""
_DEPTH = 0.01
"""Distance from the eye, for the rasteriser, per share of the texture's side from a seam."""
_ROUNDS = 2
"""A face's own border is filtered with the texels around its chart: the second time they are right."""


def with_gutters(
    image: UInt8[np.ndarray, "S S 3"], inside: Bool[np.ndarray, "S S"], mesh: Mesh, atlas: Atlas
) -> UInt8[np.ndarray, "S S 3"]:
    """The image with the colours from across the seams around its charts, and their means further out.

    Args:
        image: painted inside.
        inside: texels of the charts, at least one.
        mesh: on the CPU, with one vertex for every position.
    """
    image = fill_around(np.where(inside[..., None], image, np.uint8(0)), inside)
    flaps = _unfolded(mesh, atlas, len(image))
    if flaps is None:
        return image
    where, places = _texels(flaps, inside)
    for _ in range(_ROUNDS):
        colors = sampled(torch.from_numpy(image), torch.from_numpy(places / len(image)))
        image[where] = (255 * colors).round().to(torch.uint8).numpy()
    known = inside | where
    return fill_around(np.where(known[..., None], image, np.uint8(0)), known)


@dataclass(frozen=True)
class _Flaps:
    """Faces across a seam, in texels.

    Attributes:
        corners: (L, 3, 2) laid beside the chart of the seam, whose ends come first.
        own: (L, 3, 2) where they are in their own chart.
        reach: (L,) from the seam to the third corner.
    """

    corners: Float[np.ndarray, "L 3 2"]
    own: Float[np.ndarray, "L 3 2"]
    reach: Float[np.ndarray, " L"]


def _unfolded(mesh: Mesh, atlas: Atlas, size: int) -> _Flaps | None:
    """None where there is no seam.

    With the shared edge fixed, the neighbour turns into the plane of the face; the face's own map from space to the
    atlas, which is affine, says where its third corner comes to lie.
    """
    faces, corners = mesh.faces.numpy(), atlas.corners.numpy()
    face, corner, other, start = _seams(faces, corners)
    points, uv = mesh.vertices.double().numpy(), atlas.uv.double().numpy() * size

    def at(values: np.ndarray, index: np.ndarray, of: np.ndarray, first: np.ndarray, by: int) -> np.ndarray:
        return np.asarray(values[index[of, (first + by) % 3]])

    a, b, c = (at(points, faces, face, corner, by) for by in range(3))
    p, q, r = (at(uv, corners, face, corner, by) for by in range(3))
    d = at(points, faces, other, start, 2)
    own = np.stack([at(uv, corners, other, start, by) for by in (1, 0, 2)], 1)  # it runs along the edge the other way
    length = np.linalg.norm(b - a, axis=1)
    along = (b - a) / np.maximum(length, 1e-30)[:, None]
    share_c, share_d = (((x - a) * along).sum(1) for x in (c, d))
    high_c, high_d = (
        np.linalg.norm(x - a - share[:, None] * along, axis=1) for x, share in ((c, share_c), (d, share_d))
    )
    drawn = (q - p) / np.maximum(length, 1e-30)[:, None]
    outwards = (p + share_c[:, None] * drawn - r) / np.maximum(high_c, 1e-30)[:, None]
    tip = p + share_d[:, None] * drawn + high_d[:, None] * outwards
    reach = np.linalg.norm(outwards, axis=1) * high_d
    good = (length > 0) & (high_c > 1e-3 * length) & (high_d > 1e-3 * length)
    good &= np.linalg.norm(outwards, axis=1) < _STRETCH * np.linalg.norm(drawn, axis=1)
    return _Flaps(np.stack([p, q, tip], 1)[good], own[good], reach[good]) if good.any() else None


def _seams(faces: Int[np.ndarray, "F 3"], corners: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, " L"], ...]:
    """Faces with a neighbour elsewhere in the atlas.

    Returns:
        The face, its corner at which the edge starts, the neighbour, and its corner at which the edge starts there.
    """
    start, end = faces.reshape(-1), np.roll(faces, -1, 1).reshape(-1)
    first, second = corners.reshape(-1), np.roll(corners, -1, 1).reshape(-1)
    count = int(faces.max()) + 1
    forth, back = start * count + end, end * count + start
    order = stable_order(forth, count**2)
    twin = order[np.searchsorted(forth[order], back).clip(0, len(order) - 1)]
    here = np.flatnonzero((forth[twin] == back) & ((first != second[twin]) | (second != first[twin])))
    return here // 3, here % 3, twin[here] // 3, twin[here] % 3


def _texels(flaps: _Flaps, inside: Bool[np.ndarray, "S S"]) -> tuple[Bool[np.ndarray, "S S"], Float[np.ndarray, "T 2"]]:
    """Which texels are to be painted, and where in the atlas, in texels, their colours are."""
    size = len(inside)
    clip = np.zeros((*flaps.corners.shape[:2], 4))
    clip[..., :2] = (flaps.corners / size * 2 - 1) * [1, -1]
    # of the faces over a texel, the one whose seam is nearest is in front; so little perspective moves nothing
    clip[..., 3] = 1
    clip[:, 2, 3] += _DEPTH * flaps.reach / size
    clip[..., :2] *= clip[..., 3:]
    faces = torch.arange(clip.shape[0] * 3).reshape(-1, 3)
    drawn = rasterize(torch.from_numpy(clip.reshape(1, -1, 4)).float(), faces, (size, size))
    face, shares = drawn.face_id[0].numpy(), drawn.barycentric[0].numpy()
    away = shares[..., 2] * flaps.reach[face]
    where = (face >= 0) & ~inside & (away <= max(1.5, _REACH * size))
    return where, (shares[where][..., None] * flaps.own[face[where]]).sum(1)
