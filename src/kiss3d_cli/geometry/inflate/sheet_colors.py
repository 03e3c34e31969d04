"""Colours for an inflated silhouette: the picture in front, a plausible continuation on the sides and the back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.materials import RADIUS, Materials, by_material, mixed
from kiss3d_cli.geometry.silhouette import depth_inside

FRINGE = 0.008
"""Share of the picture's side, inwards from the outline, where a picture's colours hold some of its background."""
SEAM = 0.003
"""The same in front, where the picture's own colours are wanted as far as they go."""
HALO, PALE = 0.03, 0.8
"""The fringe where all channels are over the second: likely the white on which the object was cut out."""
EVEN, OPAQUE = 0.06, 0.97
"""Pale pixels that differ by less than the first from all around them, with an alpha over the second, are no halo but
a band of the object's own: a sticker's rim, a sheet's edge, white fur."""
DETAIL, FEATURE = 0.06, 0.27
"""Shares of the picture's side: details of the outline below the first and features of the inside below the second
are not repeated on the sides and the back."""
RIM = 0.02
"""Share of the picture's side, inwards from the outline, whose colours are continued to the sides and the back."""
SIDEWAYS = 0.12
"""How easily colours spread up and down, against sideways: things stand upright, and their bands run around them."""
ANCHOR = 0.003
"""How strongly the middle of the back is held to the picture, against 1 for the pull of a neighbouring pixel."""
SOLID = 0.3
"""Share of a pixel that the silhouette covers, from which it is one of the object's."""
SHADING = 0.12
"""Share of the picture's side over which a material's colours are averaged, sideways."""
GRAZING, FACING = 0.02, 0.1
"""Cosines between the surface and its ray: below the first the picture is stretched too far to be used."""
FADE, SOFT = 0.4, 0.006
"""By how much that cosine falls while the picture's colours at the outline, averaged over the second as a share of the
picture's side, give way to the continuation: where their shading differs, no line runs around the object."""


def unfringed(
    rgb: Float[np.ndarray, "S S 3"],
    alpha: Float[np.ndarray, "S S"],
    fringe: float = FRINGE,
    halo: float = HALO,
) -> Float[np.ndarray, "S S 3"]:
    """The picture with its fringe and its background replaced by the nearest colour that is the object's own.

    Pale pixels count as fringe further in: a cut-out made on white often keeps a halo of it. A band that is pale all
    over and opaque is the object's. Parts narrower than two fringes keep the colours along their middle.
    """
    return _Outline.of(alpha, max(fringe, halo)).unfringed(rgb, _widths(rgb, alpha, fringe, max(fringe, halo)))


@dataclass(frozen=True)
class _Outline:
    """
    Attributes:
        solid: the silhouette.
        distance: of every pixel to the nearest outside.
        thickness: radius of the largest disc inside that covers the pixel, as far as the widest fringe asks.
    """

    solid: Bool[np.ndarray, "S S"]
    distance: Float[np.ndarray, "S S"]
    thickness: Float[np.ndarray, "S S"]

    @staticmethod
    def of(alpha: Float[np.ndarray, "S S"], widest: float) -> _Outline:
        solid = alpha > 0.5
        # beyond the picture nothing is known: an object that is cut off there has no fringe
        distance = depth_inside(np.pad(solid, 1, mode="edge"))[1:-1, 1:-1]
        return _Outline(solid, distance, half_thickness(distance, 2 * widest * len(solid)))

    def unfringed(
        self, rgb: Float[np.ndarray, "S S 3"], width: Float[np.ndarray, "S S"] | float
    ) -> Float[np.ndarray, "S S 3"]:
        """The picture with what is within the width of the outline replaced."""
        own = self.solid & (self.distance > np.minimum(np.maximum(width, 1), 0.6 * self.thickness))
        nearest = ndimage.distance_transform_edt(~own, return_distances=False, return_indices=True)
        return np.asarray(rgb[nearest[0], nearest[1]])


def _widths(
    rgb: Float[np.ndarray, "S S 3"], alpha: Float[np.ndarray, "S S"], fringe: float, halo: float
) -> Float[np.ndarray, "S S"] | float:
    """Of the fringe at every pixel, in pixels."""
    if halo == fringe:
        return fringe * len(alpha)
    pale = _in_all(rgb > PALE)
    return np.where(pale & ~_even_bands(rgb, pale & (alpha > OPAQUE)), halo, fringe) * len(alpha)


def _in_all(channels: Bool[np.ndarray, "S S 3"]) -> Bool[np.ndarray, "S S"]:
    """`channels.all(-1)`, many times faster."""
    return np.asarray(channels[..., 0] & channels[..., 1] & channels[..., 2])


def _even_bands(rgb: Float[np.ndarray, "S S 3"], pale: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, "S S"]:
    """Pale pixels of bands that are even and opaque, and at least five pixels of 512 wide."""
    small = np.ascontiguousarray(rgb, np.float32)
    kernel = np.ones((3, 3), np.uint8)
    even = _in_all(cv2.dilate(small, kernel) - cv2.erode(small, kernel) < EVEN)
    reach = max(1, round(len(rgb) / 512))
    core = ndimage.binary_erosion(pale & even, np.ones((3, 3), bool), iterations=reach)
    return np.asarray(ndimage.binary_dilation(core, np.ones((3, 3), bool), iterations=4 * reach) & pale)


def half_thickness(distance: Float[np.ndarray, "S S"], limit: float) -> Float[np.ndarray, "S S"]:
    """Radius of the largest disc inside the silhouette that covers each pixel, in steps of a third, up to a limit.

    Args:
        distance: of each pixel to the nearest outside.
        limit: radii beyond which nobody asks.
    """
    radius = distance.copy()
    step = 1.0
    while step < 1.34 * limit and (distance >= step).any():
        covered = depth_inside(distance < step) < step
        radius[covered] = np.maximum(radius[covered], step)
        step *= 4 / 3
    return np.asarray(np.where(distance > 0, radius, 0))


def continued(
    rgb: Float[np.ndarray, "S S 3"], solid: Bool[np.ndarray, "S S"], side: int = 256
) -> Float[np.ndarray, "s s 3"]:
    """What the sides and the back may look like: the picture's materials without features, held to the outline's.

    A face or a button in the middle of the picture is not repeated at the back; a roof, a hat or a coat that reaches
    the outline goes on around it. Which material lies where is decided by a random walk (Grady 2006, "Random walks for
    image segmentation") from the outline inwards, so that two meet at an edge and nothing is blurred. Each keeps the
    shading that it has nearby. Values outside the silhouette continue the nearest inside.

    Args:
        rgb: the picture without fringe.
        solid: the silhouette, anything but empty.
        side: side of the result.
    """
    size = len(solid)
    side = min(side, size)
    small = cv2.resize(rgb.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    cover = cv2.resize(solid.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    there = cover > min(SOLID, cover.max() / 2)
    materials = Materials.of(small[there])
    count = len(materials.centers)
    own = np.zeros((side, side, count), np.float32)
    own[there] = np.eye(count, dtype=np.float32)[materials.label(small[there])]
    # decided on half of the pixels: what it comes to is smooth
    half = max(1, side // 2)
    inside = cv2.resize(cover, (half, half), interpolation=cv2.INTER_AREA)
    inside = inside > min(SOLID, inside.max() / 2)
    edge, middle = (_most_common(own, share, half) for share in (DETAIL, FEATURE))
    distance = depth_inside(np.pad(inside, 1))[1:-1, 1:-1]
    rim = inside & (distance <= max(1.5, RIM * half))
    given = np.eye(count)[np.where(rim, edge, middle)]
    shares = _spread(given, np.where(rim, 10.0, ANCHOR), inside)
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    wide = _resized(shares[nearest[0], nearest[1]], side).reshape(-1, count).clip(0, 1)
    colors = _resized(_shading(small, own), side).reshape(-1, count, 3)
    return mixed(wide, colors, materials).clip(0, 1).reshape(side, side, 3)


def _shaded_alike(rgb: Float[np.ndarray, "S S 3"], around: Float[np.ndarray, "s s 3"]) -> Float[np.ndarray, "s s 3"]:
    """The picture where it shows the material that the continuation has there, in another light; else the latter.

    A drawn contour ends at the outline.
    """
    small = _resized(rgb, len(around)) if len(around) < len(rgb) else rgb
    away = by_material(small.reshape(-1, 3)) - by_material(around.reshape(-1, 3))
    alike = np.exp(-((away / RADIUS) ** 2).sum(1) * 2).reshape(*around.shape[:2], 1)
    return np.asarray(around + alike * (small - around))


def _most_common(own: Float[np.ndarray, "s s K"], window: float, side: int) -> Int[np.ndarray, "t t"]:
    """The material that has the most of the window, a share of the side, around every pixel."""
    length = round(window * len(own) / 2) | 1
    found = np.stack([cv2.blur(cv2.blur(one, (length, length)), (length, length)) for one in np.moveaxis(own, 2, 0)], 2)
    return _resized(found, side).argmax(2)


def _shading(rgb: Float[np.ndarray, "s s 3"], own: Float[np.ndarray, "s s K"]) -> Float[np.ndarray, "t t K3"]:
    """The mean colour of every material around every pixel, from farther away sideways, one after another."""
    side = max(1, len(rgb) // 4)
    found = []
    for one in np.moveaxis(own, 2, 0):
        total = np.concatenate([rgb * one[..., None], one[..., None]], 2)
        near = cv2.resize(total, (side, side), interpolation=cv2.INTER_AREA)
        near = cv2.GaussianBlur(near, (0, 0), sigmaX=SHADING * side, sigmaY=SHADING * side / 4) + 1e-3 * near.mean(
            (0, 1)
        )
        found.append(near[..., :3] / near[..., 3:].clip(1e-12))
    return np.concatenate(found, 2)


def _resized(values: Float[np.ndarray, "H W C"], side: int) -> Float[np.ndarray, "s s C"]:
    kind = cv2.INTER_AREA if side < len(values) else cv2.INTER_LINEAR
    return np.stack([cv2.resize(one, (side, side), interpolation=kind) for one in np.moveaxis(values, 2, 0)], 2)


def _spread(
    values: Float[np.ndarray, "H W C"], hold: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W C"]:
    """The steady state of an anisotropic diffusion inside, each pixel held to its value by the given strength."""
    number = np.full(inside.shape, -1)
    count = int(inside.sum())
    number[inside] = np.arange(count)
    starts, ends, weights = [], [], []
    for first, second, ease in (
        (number[:, :-1], number[:, 1:], 1.0),
        (number[:-1], number[1:], SIDEWAYS),
    ):
        both = (first >= 0) & (second >= 0)
        starts.append(first[both])
        ends.append(second[both])
        weights.append(np.full(int(both.sum()), ease))
    start, end, weight = np.concatenate(starts), np.concatenate(ends), np.concatenate(weights)
    kept = hold[inside]
    diagonal = np.bincount(start, weight, count) + np.bincount(end, weight, count) + kept
    every = np.arange(count)
    matrix = sparse.coo_matrix(
        (
            np.concatenate([-weight, -weight, diagonal]),
            (np.concatenate([start, end, every]), np.concatenate([end, start, every])),
        ),
        shape=(count, count),
    )
    factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    result = np.zeros_like(values)
    result[inside] = factors.solve(kept[:, None] * values[inside])
    return result


class SheetColors:
    """A picture on its own inflated silhouette: itself in front, a continuation on the sides and the back.

    In between are the colours of the outline without detail.
    """

    def __init__(self, rgb: Float[np.ndarray, "S S 3"], alpha: Float[np.ndarray, "S S"]) -> None:
        """
        Args:
            rgb: the picture, sRGB-encoded, in [0, 1], not multiplied by alpha.
            alpha: coverage; the silhouette is where it is over one half.
        """
        outline = _Outline.of(alpha, max(FRINGE, HALO, SEAM))
        self._front = outline.unfringed(rgb, SEAM * len(alpha))
        own = outline.unfringed(rgb, _widths(rgb, alpha, FRINGE, HALO))
        self._around = continued(own, outline.solid)
        self._edge = _shaded_alike(cv2.GaussianBlur(own, (0, 0), SOFT * len(alpha)), self._around)

    def at(self, points: Float[np.ndarray, "N 2"], facing: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
        """
        Args:
            points: column and row in the picture, as shares of its side.
            facing: cosine between each point's normal and the ray to the viewer; negative on the back.
        """
        front = _smooth((facing - GRAZING) / (FACING - GRAZING))
        around = _smooth((FACING - facing) / FADE)
        layers = (
            (self._front, front),
            (self._edge, (1 - front) * (1 - around)),
            (self._around, (1 - front) * around),
        )
        found = np.zeros((len(points), 3))
        for picture, share in layers:
            there = share > 0
            found[there] += share[there, None] * sample(picture, points[there])
        return found.clip(0, 1)


def _smooth(share: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """From 0 to 1, level at both ends."""
    inside = share.clip(0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside))


def sample(picture: Float[np.ndarray, "H W C"], points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N C"]:
    """Bilinear values at points given as column and row in shares of the sides; the border pixels go on outside."""
    height, width = picture.shape[:2]
    at = np.stack([points[:, 1] * height - 0.5, points[:, 0] * width - 0.5])
    channels = np.moveaxis(picture, 2, 0)
    found = side_by_side(lambda channel: ndimage.map_coordinates(channel, at, order=1, mode="nearest"), channels)
    return np.stack(found, -1)
