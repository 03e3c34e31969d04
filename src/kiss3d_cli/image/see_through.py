"""Alpha channels of see-through things, made opaque: a ghost, a veil, a pane of glass are there all the same.

A soft shadow or a glow around an opaque thing is see-through too, and no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from kiss3d_cli.image.picture import FAINT

HALF = 128
"""Alpha from which a pixel counts as opaque."""
NEAR, FAR = 0.008, 0.03
"""Shares of the picture's longer side: an edge that reaches most of its alpha within the first has a sharp outline,
one that goes on rising until the second is a shadow's or a glow's."""
SHARP_RISE, SHARP_SHARE = 0.7, 0.5
"""Share of the alpha that must be reached, on this share of the outline."""
FEATHER = 0.006
"""Share of the picture's longer side that the soft edge of an opaque thing may have."""
DARK = 60
"""Largest channel of a flat shadow's colour."""
LEAST_SHARE = 0.005
"""Share of the object that must be see-through to be said."""
SIDE = 1024
"""Longer side, in pixels, at which the parts are told apart."""


@dataclass(frozen=True)
class Solid:
    """
    Attributes:
        alpha: (H, W), 255 on everything that belongs to the object, soft along its edge.
        notes: what is see-through, for the user.
    """

    alpha: UInt8[np.ndarray, "H W"]
    notes: tuple[str, ...] = ()


def make_solid(rgb: UInt8[np.ndarray, "H W 3"], alpha: UInt8[np.ndarray, "H W"]) -> Solid:
    """The alpha of an object of which parts, or all, are see-through, with those parts opaque.

    Args:
        rgb: not multiplied by alpha.
        alpha: of the file; some pixel is at least `FAINT`.
    """
    side = max(alpha.shape)
    scale = min(1.0, SIDE / side)
    if scale < 1:
        size = max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale))
        small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
        colors = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    else:
        small, colors = alpha, rgb
    parts = _see_through_parts(np.asarray(small), np.asarray(colors))
    opaque = alpha >= HALF
    if not parts.any():
        if opaque.any():
            return Solid(alpha)
        # nothing but a haze: half of what is there
        level = float(np.percentile(alpha[alpha >= FAINT], 95))
        return Solid(_scaled(alpha, np.full(alpha.shape, level)), (_said(1.0, level),))
    if scale < 1:
        grown = cv2.dilate(parts.astype(np.uint8), np.ones((3, 3), np.uint8))
        parts = cv2.resize(grown, alpha.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    soft = parts & ~opaque
    level = float(np.median(alpha[soft & (alpha >= FAINT)]))
    # each part is measured by the alpha around it, so that a faint sleeve of a fainter gown stays
    reach = 2 * max(1, round(0.003 * side)) + 1
    around = cv2.dilate(np.where(soft, alpha, 0).astype(np.uint8), np.ones((reach, reach), np.uint8))
    solid = np.where(soft, _scaled(alpha, np.maximum(around, FAINT).astype(np.float64)), alpha)
    # within, the seams between parts of different opacity are no edges
    deep = ndimage.binary_erosion(soft | opaque, np.ones((3, 3), bool), iterations=2, border_value=1)
    solid = np.where(deep & soft, 255, solid).astype(np.uint8)
    shown = solid >= HALF
    share = float((shown & soft).sum() / max(1, shown.sum()))
    return Solid(solid, (_said(share, level),) if share >= LEAST_SHARE else ())


def _scaled(alpha: UInt8[np.ndarray, "H W"], level: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    return np.asarray((alpha * 255.0 / level).clip(0, 255).round().astype(np.uint8))


def _said(share: float, level: float) -> str:
    what = "The object is" if share > 0.995 else f"{share:.0%} of the object is"
    return f"{what} see-through (opacity about {level / 255:.0%}); the mesh is opaque there."


def _see_through_parts(alpha: UInt8[np.ndarray, "h w"], rgb: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Half and less opaque parts that belong to the object: with a sharp outline, or enclosed by it."""
    side = max(alpha.shape)
    visible, opaque = alpha >= FAINT, alpha >= HALF
    soft = visible & ~opaque
    core = soft
    if opaque.any():
        to_opaque = ndimage.distance_transform_edt(~opaque)
        feather = max(2.0, FEATHER * side)
        core = soft & (to_opaque > feather)
        soft &= ndimage.binary_dilation(core, np.ones((3, 3), bool), iterations=int(np.ceil(feather)) + 1)
    parts, count = ndimage.label(soft, np.ones((3, 3)))
    if count == 0:
        return np.zeros(alpha.shape, bool)
    hidden = np.pad(~visible, 1, constant_values=False)
    outline = soft & ndimage.binary_dilation(hidden, np.ones((3, 3), bool))[1:-1, 1:-1]
    at = np.where(soft, alpha, 0).astype(np.uint8)
    near, far = (_largest_around(at, max(least, round(share * side))) for share, least in ((NEAR, 2), (FAR, 6)))
    sharp = near >= SHARP_RISE * np.maximum(far, 1)
    every = np.arange(count + 1)
    length = np.asarray(ndimage.sum(outline, parts, every))
    rise = np.asarray(ndimage.sum(outline & sharp, parts, every)) / np.maximum(length, 1)
    kept = (length == 0) | (rise >= SHARP_SHARE)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    kept &= areas >= 4
    if opaque.any():
        # what covers most of the border is a background, what is black, flat and faint beside something opaque a shadow
        border = np.zeros(alpha.shape, bool)
        border[[0, -1]] = border[:, [0, -1]] = True
        on_border = np.asarray(ndimage.sum(border, parts, every)) / border.sum()
        kept &= on_border < 0.5
        clear = np.where(core, parts, 0)  # its rim is mixed with the opaque thing
        brightest = np.asarray(ndimage.mean(rgb.max(-1), clear, every))
        spread = np.asarray(ndimage.standard_deviation(rgb.max(-1), clear, every))
        flat = (brightest < DARK) & (spread < 12) & (length > 0) & (areas < opaque.sum())
        kept &= ~flat
    kept[0] = False
    return np.asarray(kept[parts])


def _largest_around(values: UInt8[np.ndarray, "h w"], radius: int) -> np.ndarray:
    return np.asarray(cv2.dilate(values, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(np.int32))
