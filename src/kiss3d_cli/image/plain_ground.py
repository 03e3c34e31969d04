"""Cutting out what stands on a plain ground: paper, a studio's backdrop, the even colour of a drawing.

There the colour of the ground is known everywhere, and what differs from it is the object, in as many pieces and as
thin as it may be. A shadow is told from the object by its soft edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

SIDE = 1024
"""Longer side, in pixels, at which the object is found."""
BORDER = 0.025
"""Width of the picture's border that must show the ground, as a share of its shorter side."""
LEAST_BORDER = 0.7
"""Share of the border that must agree with one smooth colour."""
MOST_NOISE = 4.0
"""Root mean square deviation in CIELAB of the border from its smooth colour, above which a ground is not plain."""
MOST_CHANGE = 60.0
"""Range in CIELAB of the smooth colour along the border, above which a ground is not plain."""
DIFFERENT = 6.0
"""CIELAB distance from the ground, at least, from which a pixel is the object's."""
SHADOW_STEP = 1.7
"""CIELAB lightness per pixel of 512 below which an edge is a shadow's."""
SHADOW_TINT = 5.0
"""CIELAB units by which the tint of a shadow may differ from that of the darkened ground."""
SHADOW_DARKEST = 0.3
"""Share of the ground's light that is left in the darkest shadow."""
SHADOW_RIM = 0.012
"""Half the width of a shadow's own edge, at most, as a share of the longer side."""
SHADOW_CRUMB = 0.02
"""Share of the largest piece's area below which a piece within a shadow that has no tint of its own is the shadow's."""
SHADED = 0.95
"""Share of the ground's light below which ground is in a shadow."""
LEAST_PIECE = 2e-5
"""Share of the picture below which a spot on the ground is dust."""
OPENING = 1.2
"""An enclosed spot of the ground's colour is an opening if the way out through the object is shorter than this many
times its own width: the handle of a cup is, an eye is not."""


@dataclass(frozen=True)
class Ground:
    """The plain ground of a picture, and what stands on it, at a longer side of `SIDE` or less.

    Attributes:
        lab: CIELAB of the picture.
        color: CIELAB of the ground at every pixel, also behind the object.
        noise: root mean square deviation of the ground from it.
    """

    lab: Float32[np.ndarray, "h w 3"]
    color: Float32[np.ndarray, "h w 3"]
    noise: float

    @property
    def distance(self) -> Float32[np.ndarray, "h w"]:
        return np.asarray(np.linalg.norm(self.lab - self.color, axis=-1), np.float32)

    @property
    def threshold(self) -> float:
        return max(DIFFERENT, 4 * self.noise)


def to_lab(rgb: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def find_ground(rgb: UInt8[np.ndarray, "H W 3"]) -> Ground | None:
    """The ground of a picture whose border shows one smooth colour; None for any other picture."""
    scale = min(1.0, SIDE / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    lab = to_lab(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb)
    height, width = lab.shape[:2]
    band = max(2, round(BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[band:-band, band:-band] = False
    model = _smooth(lab, border, degree=2)
    away = np.linalg.norm(lab - model, axis=-1)
    agreeing = border & (away < max(DIFFERENT, 3 * MOST_NOISE))
    if agreeing.sum() < LEAST_BORDER * border.sum():
        return None
    if 1.48 * np.median(away[agreeing]) > MOST_NOISE:
        return None
    if np.linalg.norm(np.ptp(model[border], axis=0)) > MOST_CHANGE:
        return None
    # the ground between the border and the object says more of the ground behind the object
    ground = agreeing
    for _ in range(3):
        ground = _reached((away < 2.5 * DIFFERENT) & (_steps(lab) < 2 * SHADOW_STEP * 512 / max(height, width)), border)
        if ground.sum() < 0.05 * ground.size:
            return None
        model = _smooth(lab, ground & (away < np.percentile(away[ground], 90) + 1e-3), degree=3)
        away = np.linalg.norm(lab - model, axis=-1)
    inside = ground & (away < DIFFERENT)
    if not inside.any():
        return None
    noise = float(np.sqrt((away[inside] ** 2).mean()))
    return Ground(lab, model, noise) if noise <= MOST_NOISE else None


def _smooth(
    lab: Float32[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"], degree: int
) -> Float32[np.ndarray, "h w 3"]:
    """A polynomial through the colours of some pixels, everywhere; outliers count little (Huber)."""
    height, width = where.shape
    rows, columns = np.nonzero(where)
    step = max(1, len(rows) // 20_000)
    rows, columns = rows[::step], columns[::step]
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]

    def basis(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        y, x = 2 * y / height - 1, 2 * x / width - 1
        return np.stack([y**i * x**j for i, j in powers], -1)

    terms, values = basis(rows, columns), lab[rows, columns].astype(np.float64)
    weights = np.ones(len(rows))
    ridge = 1e-6 * len(rows) * np.diag([float(i + j) for i, j in powers])
    for _ in range(8):
        weighted = terms * weights[:, None]
        solution = np.linalg.solve(terms.T @ weighted + ridge + 1e-9 * np.eye(len(powers)), weighted.T @ values)
        off = np.linalg.norm(values - terms @ solution, axis=1)
        weights = 1 / np.maximum(1, off / max(0.5, 1.5 * float(np.median(off))))
    y, x = np.mgrid[0:height, 0:width]
    return np.asarray(basis(y, x) @ solution, np.float32)


def _steps(lab: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """The largest change of colour per pixel, noise smoothed."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.2)
    across = [cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1))]
    return np.asarray(np.sqrt(across[0] ** 2 + across[1] ** 2).max(-1))


def _reached(free: Bool[np.ndarray, "h w"], start: Bool[np.ndarray, "h w"], gap: int = 0) -> Bool[np.ndarray, "h w"]:
    """What of `free` is connected to `start`, through passages wider than twice `gap`."""
    inner = ndimage.binary_erosion(free | start, iterations=gap, border_value=1) if gap else free | start
    labels, _ = ndimage.label(inner)
    kept = np.unique(labels[start & inner])
    reached = np.isin(labels, kept[kept > 0])
    return np.asarray((ndimage.binary_dilation(reached, iterations=gap + 1) if gap else reached) & free)


def find_object(ground: Ground) -> Bool[np.ndarray, "h w"]:
    """Everything that stands on the ground, without its shadow and without openings through it; dust left out."""
    distance = ground.distance
    border = np.zeros(distance.shape, bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    empty = distance < ground.threshold
    outside = _reached(empty, border & empty)
    shadow = _shadow(ground, outside)
    outside = outside | shadow
    outside = outside | _shadow_rim(ground, outside)
    solid = ~outside & ~_shadow_crumbs(ground, outside)
    solid = _open(ground, solid, outside, empty)
    labels, count = ndimage.label(solid, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    kept = areas >= max(6, LEAST_PIECE * solid.size)
    # a spot must be seen, not guessed
    strongest = ndimage.maximum(distance, labels, np.arange(count + 1))
    kept &= np.asarray(strongest) > 2 * ground.threshold
    kept[0] = False
    return np.asarray(kept[labels])


def _shadow(ground: Ground, outside: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Ground in a shadow: darker, of the same tint, and reached from the lit ground without crossing an edge."""
    limit = SHADOW_STEP * 512 / max(outside.shape)
    could = _could_be_shadow(ground) & (_steps(ground.lab) < limit)
    gap = max(1, round(0.004 * max(outside.shape)))
    return _reached(could | outside, outside, gap) & ~outside


def _light(ground: Ground) -> Float32[np.ndarray, "h w"]:
    """The share of the ground's light that each pixel has, if it is ground."""
    return np.asarray(((ground.lab[..., 0] + 16) / (ground.color[..., 0] + 16)) ** 3, np.float32)


def _could_be_shadow(ground: Ground) -> Bool[np.ndarray, "h w"]:
    """Pixels with the tint of the darkened ground, neither lighter than it nor too dark."""
    light = _light(ground)
    darkened = np.stack(
        [ground.lab[..., 0], *(ground.color[..., c] * np.cbrt(np.clip(light, 0, 1)) for c in (1, 2))], -1
    )
    tint = np.linalg.norm(ground.lab - darkened, axis=-1)
    return np.asarray((tint < SHADOW_TINT) & (light < 1.02) & (light > SHADOW_DARKEST))


def _shadow_rim(ground: Ground, outside: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The narrow edge between lit ground and a shadow with a sharper edge than `SHADOW_STEP` allows.

    Its light is between that of the two sides, as that of a thin grey thing on the ground is not.
    """
    reach = max(1, round(SHADOW_RIM * max(outside.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    solid = (~outside).astype(np.uint8)
    narrow = (solid > 0) & (cv2.morphologyEx(solid, cv2.MORPH_OPEN, disc) == 0)
    light = _light(ground)
    darkest = cv2.erode(np.where(outside, light, np.float32(9)), disc)
    between = light > darkest - 0.02
    return _reached((narrow & _could_be_shadow(ground) & between) | outside, outside) & ~outside


def _shadow_crumbs(ground: Ground, outside: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Small pieces within a shadow that have no tint of their own: its darker spots."""
    solid, shadow = ~outside, outside & (_light(ground) < SHADED)
    labels, count = ndimage.label(solid, np.ones((3, 3)))
    if count < 2 or not shadow.any():
        return np.zeros_like(solid)
    every = np.arange(count + 1)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    untinted = np.asarray(ndimage.mean(_could_be_shadow(ground), labels, every))
    around = cv2.dilate(labels.astype(np.int32).astype(np.float32), np.ones((5, 5), np.uint8)).astype(int)
    rim = np.where(solid, 0, around)
    shaded = np.asarray(ndimage.mean(shadow, rim, every))
    crumb = (areas < SHADOW_CRUMB * areas.max()) & (np.nan_to_num(untinted) > 0.9) & (np.nan_to_num(shaded) > 0.5)
    crumb[0] = False
    return np.asarray(crumb[labels])


def _open(
    ground: Ground, solid: Bool[np.ndarray, "h w"], outside: Bool[np.ndarray, "h w"], empty: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """The object with its openings open: enclosed spots that show the very ground and are near the outside."""
    labels, count = ndimage.label(solid & empty)
    if count == 0:
        return solid
    to_outside = ndimage.distance_transform_edt(~outside)
    to_object = ndimage.distance_transform_edt(solid & empty)
    every = np.arange(count + 1)
    way = np.asarray(ndimage.minimum(to_outside, labels, every))
    width = 2 * np.asarray(ndimage.maximum(to_object, labels, every))
    core = np.where(to_object > np.minimum(2, 0.3 * width[labels]), labels, 0)  # the rim is mixed with the object
    off = np.stack([ndimage.mean(ground.lab[..., c] - ground.color[..., c], core, every) for c in range(3)])
    spread = np.sqrt(sum(ndimage.variance(ground.lab[..., c] - ground.color[..., c], core, every) for c in range(3)))
    exact = (np.linalg.norm(off, axis=0) < 0.5 + 0.5 * ground.noise) & (spread < 0.5 + 1.3 * ground.noise)
    opening = exact & (way < OPENING * width) & (width > 4)
    opening[0] = False
    return np.asarray(solid & ~opening[labels])


def soft_alpha(
    rgb: UInt8[np.ndarray, "H W 3"], ground: Ground, mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "H W"]:
    """Alpha at the picture's size: along the edge the share of the object's colour in that of the pixel.

    Args:
        rgb: the picture.
        ground: its ground.
        mask: the object, at the ground's size.
    """
    height, width = rgb.shape[:2]
    scale = max(height / mask.shape[0], 1.0)
    lab = to_lab(rgb)
    color = np.asarray(cv2.resize(ground.color, (width, height), interpolation=cv2.INTER_LINEAR)).reshape(
        height, width, 3
    )
    distance = np.linalg.norm(lab - color, axis=-1).astype(np.float32)
    coarse = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    radius = int(np.ceil(1.5 * scale)) + 1
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    near = cv2.dilate((coarse > 0.5).astype(np.uint8), window) > 0
    inside = cv2.erode((coarse > 0.5).astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    own = cv2.dilate(np.where(coarse > 0.5, distance, 0), window)
    share = (distance - ground.noise) / np.maximum(own - ground.noise, 1)
    alpha = np.where(inside, 1, np.where(near, share, 0)).clip(0, 1)
    # a pixel of the object may be as pale as the ground: at a whole pixel from the edge the mask holds
    alpha = np.maximum(alpha, np.where(cv2.erode(coarse, np.ones((3, 3), np.uint8)) > 0.99, 1, 0))
    return np.asarray((255 * alpha).round().astype(np.uint8))
