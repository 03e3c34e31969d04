"""Line drawings: closed contours as filled areas."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

STROKE = 0.018
"""Half of the width of the widest stroke, as a share of the drawing's longer extent."""
LEAST_STROKES = 0.6
"""Share of the ink that must be in strokes for a picture to be a line drawing."""
LEAST_FILLED = 1.8
"""How many times the ink's own area its contours must hold."""
GAPS = (0.0, 0.004, 0.008, 0.014, 0.022, 0.035, 0.06)
"""Gaps of a contour that are closed, as shares of the drawing's longer extent, half of them to each side."""
GAIN = 1.3
"""How many times more area a wider gap must close for its contour to count as meant to be closed."""


@dataclass(frozen=True)
class Filled:
    """A drawing whose contours are areas.

    Attributes:
        mask: the ink and all that its closed contours hold.
        gap: the widest gap in a contour that was closed, in pixels; 0 if all were closed.
    """

    mask: Bool[np.ndarray, "H W"]
    gap: int


def fill_contours(ink: Bool[np.ndarray, "H W"], *, always: bool = False) -> Filled | None:
    """Fill the closed contours of a line drawing; None if the picture is none.

    In a line drawing most of the ink lies in strokes, and the strokes hold far more area than they cover. A contour
    that is not quite closed is closed first, with the narrowest gap that holds an area.

    Args:
        ink: where the picture differs from its ground.
        always: fill whatever the picture is.
    """
    if not ink.any():
        return None
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    area = int(ink.sum())
    if not always and _stroke_share(ink, max(2.0, STROKE * extent)) < LEAST_STROKES:
        return None
    best, gap = _hold(ink, 0), 0
    for share in GAPS[1:]:
        radius = max(1, round(share * extent / 2))
        if radius == gap:
            continue
        held = _hold(ink, radius)
        if held.sum() > max(GAIN * best.sum(), LEAST_FILLED * area):
            best, gap = held, radius
    if best.sum() <= (LEAST_FILLED * area if not always else area):
        return None
    return Filled(best, 2 * gap)


def _stroke_share(ink: Bool[np.ndarray, "H W"], radius: float) -> float:
    """Share of the ink that no disc of a radius fits into."""
    depth = ndimage.distance_transform_edt(np.pad(ink, 1))[1:-1, 1:-1]
    blots = ndimage.distance_transform_edt(depth <= radius) <= radius
    return float((ink & ~(blots & (depth > 0))).sum() / ink.sum()) if (depth > radius).any() else 1.0


def _hold(ink: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
    """The ink and what it holds, its gaps up to twice a radius closed."""
    pad = 2 * radius + 2
    padded = np.pad(ink, pad).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    walls = cv2.dilate(padded, disc) if radius else padded
    filled = ndimage.binary_fill_holes(walls > 0)
    if radius:
        # what holds nothing goes back to its own width
        filled = cv2.erode(filled.astype(np.uint8), disc, borderValue=0) > 0
        filled &= ~(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc) > 0) | (padded > 0) | _thick(filled, radius)
    return np.asarray((filled | (padded > 0))[pad:-pad, pad:-pad])


def _thick(mask: Bool[np.ndarray, "H W"], radius: int) -> Bool[np.ndarray, "H W"]:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (4 * radius + 1, 4 * radius + 1))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc) > 0)
