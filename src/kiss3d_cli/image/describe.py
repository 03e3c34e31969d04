"""A caption without a neural network: what can be said of a picture from its silhouette and its colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kiss3d_cli.core.color_space import srgb_to_linear
from kiss3d_cli.core.errors import BadInput

COLOR_NAMES: dict[str, tuple[int, int, int]] = {
    "black": (15, 15, 15),
    "dark grey": (70, 70, 70),
    "grey": (128, 128, 128),
    "light grey": (192, 192, 192),
    "white": (250, 250, 250),
    "dark red": (115, 20, 20),
    "red": (215, 35, 30),
    "pink": (245, 160, 180),
    "magenta": (205, 40, 160),
    "purple": (115, 50, 140),
    "lavender": (180, 165, 220),
    "dark blue": (25, 35, 105),
    "blue": (35, 85, 200),
    "slate blue": (85, 105, 130),
    "light blue": (150, 200, 235),
    "turquoise": (60, 190, 190),
    "teal": (20, 110, 110),
    "dark green": (25, 75, 35),
    "green": (50, 150, 60),
    "light green": (150, 215, 140),
    "olive": (115, 115, 45),
    "yellow": (245, 220, 60),
    "gold": (190, 145, 60),
    "orange": (240, 135, 35),
    "dark brown": (65, 40, 25),
    "brown": (125, 75, 40),
    "tan": (200, 165, 125),
    "cream": (240, 228, 205),
}
"""Everyday names with a typical 8-bit sRGB value."""
LEAST_SHARE = 0.06
"""Share of the object that a colour must cover to be named."""
MOST_COLORS = 4
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to XYZ (IEC 61966-2-1)."""


@dataclass(frozen=True)
class Description:
    """What a picture shows, in words and figures.

    Attributes:
        caption: two or three English sentences.
        colors: names with the share of the object that each covers, most striking first.
        aspect: width over height of the silhouette.
        solidity: share of the silhouette's convex hull that it covers.
        symmetry: intersection over union of the silhouette and its mirror image about its vertical axis.
        holes: count of openings through the silhouette.
    """

    caption: str
    colors: tuple[tuple[str, float], ...]
    aspect: float
    solidity: float
    symmetry: float
    holes: int


def describe(rgb: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> Description:
    """Colours by name, proportions and symmetry of the masked object. The same picture gives the same words.

    Raises:
        BadInput: the mask is empty.
    """
    if not mask.any():
        raise BadInput("there is nothing to describe: the mask is empty", hint="check mask.png of the preprocess stage")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    shape = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = shape.shape
    mirrored = shape[:, ::-1]
    symmetry = float((shape & mirrored).sum() / (shape | mirrored).sum())
    points = np.argwhere(shape)[:, ::-1].astype(np.int32)
    hull = np.zeros(shape.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    solidity = float(shape.sum() / max(int(hull.sum()), 1))
    aspect = width / height
    holes = _count_holes(shape)
    colors = _name_colors(rgb, mask)
    caption = _sentences(colors, aspect, solidity, symmetry, holes)
    return Description(caption, colors, round(aspect, 3), round(solidity, 3), round(symmetry, 3), holes)


def _lab(rgb: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """CIELAB under D65 (CIE 15), of sRGB-encoded colours in [0, 1].

    For a few thousand colours: OpenCV takes a quarter of a second to fill its tables before the first.
    """
    light = srgb_to_linear(rgb) @ _TO_XYZ.T / _TO_XYZ.sum(1)
    root = np.where(light > (6 / 29) ** 3, np.cbrt(light), light / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _name_colors(rgb: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> tuple[tuple[str, float], ...]:
    names = list(COLOR_NAMES)
    table = _lab(np.array([COLOR_NAMES[name] for name in names]) / 255)
    # at the edge the colour is mixed with the background's
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    smooth = cv2.medianBlur(rgb, 5)
    pixels = smooth[inner if inner.any() else mask]
    # shading moves a surface's lightness more than its hue: lightness counts for less
    weights = np.array([0.6, 1.0, 1.0])
    # 32 levels a channel are enough to tell names apart
    levels = (pixels >> 3).astype(np.int64) @ [32 * 32, 32, 1]
    counts = np.bincount(levels)
    there = np.flatnonzero(counts)
    counts = counts[there]
    centers = _lab((np.stack([there // (32 * 32), there // 32 % 32, there % 32], 1) * 8 + 4) / 255)
    distance = np.linalg.norm((centers[:, None] - table[None]) * weights, axis=-1)
    shares = np.bincount(distance.argmin(1), weights=counts, minlength=len(names)) / counts.sum()
    return tuple((names[i], round(float(shares[i]), 3)) for i in _pick(shares, table))


def _pick(shares: Float[np.ndarray, " N"], table: Float[np.ndarray, "N 3"]) -> list[int]:
    """Names in the order in which they strike the eye: large, vivid, and unlike those already named."""
    vivid = 1 + np.linalg.norm(table[:, 1:], axis=1) / 50
    chosen = [int((shares * vivid).argmax())]
    while len(chosen) < MOST_COLORS:
        apart = np.linalg.norm(table[:, None] - table[None, chosen], axis=-1).min(1)
        score = np.where(shares >= LEAST_SHARE, shares * vivid * np.minimum(1, apart / 60), 0)
        score[chosen] = 0
        if not score.any():
            break
        chosen.append(int(score.argmax()))
    return chosen


def _count_holes(shape: Bool[np.ndarray, "H W"]) -> int:
    """Openings of at least 0.2 % of the silhouette's area."""
    padded = np.pad(~shape, 1, constant_values=True).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(padded, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    # label 0 is the object itself, one of the others the outside
    return int((areas[1:count] >= 0.002 * shape.sum()).sum()) - 1


def _sentences(
    colors: tuple[tuple[str, float], ...], aspect: float, solidity: float, symmetry: float, holes: int
) -> str:
    if aspect < 0.45:
        proportions = "tall and slender"
    elif aspect < 0.8:
        proportions = "taller than it is wide"
    elif aspect <= 1.25:
        proportions = "about as wide as it is tall"
    elif aspect <= 2.2:
        proportions = "wider than it is tall"
    else:
        proportions = "long and low"
    if solidity > 0.92:
        build = "a compact, rounded outline"
    elif solidity > 0.75:
        build = "an outline with some parts that stand out"
    else:
        build = "an open outline with slender parts"
    balance = {True: "nearly mirror-symmetric", False: "asymmetric"}[symmetry > 0.88]
    through = {0: "", 1: " and one opening through it"}.get(holes, f" and {holes} openings through it")
    names = [name for name, _ in colors]
    mostly = len(names) > 1 and colors[0][1] > 0.5
    palette = f"mostly {names[0]}, with {_listed(names[1:])}" if mostly else _listed(names)
    return (
        f"A single object on a white background, seen from the front, {proportions}. "
        f"It is {palette}. It has {build}{through}, and seems {balance}."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
