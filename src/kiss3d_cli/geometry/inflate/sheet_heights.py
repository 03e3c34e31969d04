"""Heights of the vertices of a double sheet: the grid's heights (heights.py) where the silhouette is wide, and exact to
its outline where it is narrow.

How round a part is, and how much a trunk is turned, are smooth: a coarse grid says it. The height itself is solved for
on the sheet's own triangles with linear finite elements, so that a wire of one pixel is as round as a trunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from kiss3d_cli.geometry.inflate.double_sheet import LEVEL, DoubleSheet
from kiss3d_cli.geometry.inflate.heights import height_field
from kiss3d_cli.geometry.silhouette import depth_inside

COARSE = 256
"""Pixels a side of the grid for what is smooth."""
_ROD = 2.0
"""The source that makes round rods of strips."""
_STEEP = 3
"""Times the squared height near the outline that turning a trunk adds at most: the underside of a cap is nearly flat,
and of a larger factor come only sharper bends along its rim."""
_SMALLEST = 40
"""Coarse pixels; of smaller pieces nobody can say how round they are."""
_LEAST = 0.35
"""Height over the mid-plane of any vertex, in its distances to the outline: two sheets never touch inside."""

_SMOOTHING = 10
"""Times that the gradient is averaged over neighbours: in notches of the outline it is not bounded."""


@dataclass(frozen=True)
class SheetHeights:
    """
    Attributes:
        squared: (N,) square of the height of each vertex, in squared pixels; 0 on the outline.
        gradient: (N, 2) of it, to the right and upwards, without what turning the trunk adds.
    """

    squared: Float[np.ndarray, " N"]
    gradient: Float[np.ndarray, "N 2"]


def sheet_heights(coverage: Float[np.ndarray, "H W"], sheet: DoubleSheet) -> SheetHeights:
    """
    Args:
        coverage: what the sheet was made from, with its border of one pixel.
        sheet: of it, one piece or several.
    """
    side = coverage.shape[0] - 2
    factor = max(1, round(side / COARSE))
    source, extra = _coarse(coverage, factor)
    # both grids have a border of one pixel of their own
    at = ((sheet.points - 1) / factor + 0.5).T[::-1]
    faces = sheet.faces[: len(sheet.faces) // 2]
    solved = _solve(sheet, faces, ndimage.map_coordinates(source, at, order=1, mode="nearest"))
    gradient = _gradient(sheet, faces, solved)
    turned = np.maximum(ndimage.map_coordinates(extra, at, order=1, mode="constant"), 0) * factor**2
    # near the outline the coarse grid's part goes to 0 as the height does
    squared = solved + np.minimum(turned, _STEEP * solved) * (sheet.side != 0)
    twin = np.arange(len(sheet.side))
    front = int((sheet.side == 1).sum())
    twin[front : 2 * front] = np.arange(front)
    return SheetHeights(squared[twin], gradient[twin])


def _coarse(
    coverage: Float[np.ndarray, "H W"], factor: int
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """The source, and what turning adds to the squared height, on a grid coarser by the factor; each piece by itself.

    Where the coarse grid has nothing the source is that of the nearest place where it has.
    """
    inner = coverage[1:-1, 1:-1]
    inner = np.pad(inner, [(0, -length % factor) for length in inner.shape])
    rows, columns = (length // factor for length in inner.shape)
    small = np.pad(inner.reshape(rows, factor, columns, factor).mean((1, 3)), 1)
    labels, count = ndimage.label(small > LEVEL, np.ones((3, 3)))
    source, extra = np.full_like(small, _ROD), np.zeros_like(small)
    known = np.zeros(small.shape, bool)
    for number, box in enumerate(ndimage.find_objects(labels, count), 1):
        window = tuple(slice(part.start - 1, part.stop + 1) for part in box)
        own = labels[window] == number
        if own.sum() < _SMALLEST:
            continue
        # another piece's pixels in the window count as outside
        alone = np.where(own, small[window], np.minimum(small[window], LEVEL) * (labels[window] == 0))
        heights = height_field(alone)
        source[window] = np.where(own, heights.source, source[window])
        extra[window] += np.where(own, heights.squared - heights.inflated, 0)
        known[window] |= own
    if known.any() and not known.all():
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        # a part that the coarse grid does not have is narrow: beyond the neighbourhood it is a rod
        far = depth_inside(~known) > 2
        source = np.where(far, _ROD, source[nearest[0], nearest[1]])
    return source, extra


def _corners(
    sheet: DoubleSheet, faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "F 3 2"], Float[np.ndarray, " F"]]:
    """The edge opposite to each corner, and the faces' areas, in pixels; both as seen with rows going down."""
    corner = sheet.points[faces]
    edge = np.roll(corner, 1, 1) - np.roll(corner, -1, 1)
    doubled = edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0]
    return edge, np.abs(doubled) / 2


def _solve(
    sheet: DoubleSheet, faces: Int[np.ndarray, "F 3"], source: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """laplacian(u) = -source on the front sheet, 0 on the outline, with linear elements. Direct, so deterministic."""
    edge, area = _corners(sheet, faces)
    count = len(sheet.points)
    # stiffness of a linear triangle: the product of the opposite edges over four times the area
    rows, columns, values = [], [], []
    for one in range(3):
        for two in range(3):
            rows.append(faces[:, one])
            columns.append(faces[:, two])
            values.append((edge[:, one] * edge[:, two]).sum(1) / (4 * area))
    matrix = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    ).tocsr()
    load = np.zeros(count)
    for corner in range(3):
        load += np.bincount(faces[:, corner], area / 3 * source[faces[:, corner]], count)
    free = np.flatnonzero(sheet.side == 1)
    factors = splu(
        matrix[free][:, free].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0
    )
    solved = np.zeros(count)
    solved[free] = np.maximum(factors.solve(load[free]), (_LEAST * _reach(sheet, faces)[free]) ** 2)
    return solved


def _reach(sheet: DoubleSheet, faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, " N"]:
    """Of each vertex the shortest of its edges, in pixels; at most one."""
    reach = np.ones(len(sheet.points))
    for one, two in ((0, 1), (1, 2), (2, 0)):
        length = np.linalg.norm(sheet.points[faces[:, one]] - sheet.points[faces[:, two]], axis=1)
        np.minimum.at(reach, faces[:, one], length)
        np.minimum.at(reach, faces[:, two], length)
    return reach


def _gradient(
    sheet: DoubleSheet, faces: Int[np.ndarray, "F 3"], values: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N 2"]:
    """To the right and upwards: the mean of the faces around each vertex, smoothed a little."""
    edge, area = _corners(sheet, faces)
    # the gradient of a linear triangle is the sum of its values times the opposite edges, turned, over twice the area
    sloped = (values[faces][..., None] * edge).sum(1) / (2 * area)[:, None]
    corner = sheet.points[faces]
    first, second = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    turn = np.sign(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])[:, None]
    of_face = turn * np.stack([-sloped[:, 1], sloped[:, 0]], -1)
    count = len(sheet.points)
    weight = sum(np.bincount(faces[:, corner], area, count) for corner in range(3))
    for _ in range(_SMOOTHING):
        at = (
            np.stack(
                [
                    sum(np.bincount(faces[:, corner], area * of_face[:, axis], count) for corner in range(3))
                    for axis in range(2)
                ],
                -1,
            )
            / np.maximum(weight, 1e-12)[:, None]
        )
        of_face = at[faces].mean(1)
    return at * [1, -1]
