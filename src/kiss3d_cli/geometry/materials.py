"""Clustering of the colours of a picture or a surface into a few materials, independent of shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int

LIGHTNESS, CHROMA, DARK = 0.25, 60.0, 10.0
"""Weight of the lightness against the chroma, the lightness at which chroma counts as it is, and what is added to a
lightness that it is divided by: light that falls on a material scales its lightness and its chroma alike."""
RADIUS = 18.0
"""From a material to the colours that are of it, in the units of `by_material`."""
MOST = 10
RARE = 3e-4
"""Share of all colours below which no material is made for some."""
ALIKE, COLORFUL, HUE = 10.0, 12.0, 0.3
"""Materials differ by less than the first (CIE 1976), or have chromas above the second and hues that differ by less
than the third, in radians, where there is no edge between them."""
_ROUNDS = 10
_BITS = 3


@dataclass(frozen=True)
class Materials:
    """
    Attributes:
        centers: (K, 3) where they lie, in the units of `by_material`.
        alike: (K, K) from 0 for materials between which there is an edge to 1 for those that shade into each other.
    """

    centers: Float[np.ndarray, "K 3"]
    alike: Float[np.ndarray, "K K"]

    @staticmethod
    def of(colors: Float[np.ndarray, "N 3"]) -> Materials:
        """Of sRGB-encoded colours in [0, 1], at least one: k-means, with as many means as colours far from all ask for.

        The same colours give the same materials.
        """
        # the colours counted by cubes of 8 steps
        cube = ((colors * 255).round().astype(np.int64) >> _BITS) @ np.array([1 << 10, 1 << 5, 1])
        _, number, count = np.unique(cube, return_inverse=True, return_counts=True)
        mean = _means(colors, number.reshape(-1), count.astype(np.float64))
        kept = count >= min(RARE * len(colors), count.max())
        mean, weight = mean[kept], count[kept].astype(np.float64)
        places = by_material(mean)
        centers = places[[weight.argmax()]]
        while len(centers) < MOST:
            away = _squares(places, centers).min(1)
            wanted = np.where(away > RADIUS**2, away * np.sqrt(weight), 0)
            if not wanted.any():
                break
            centers = np.concatenate([centers, places[[wanted.argmax()]]])
        for _ in range(_ROUNDS):
            nearest = _squares(places, centers).argmin(1)
            used = np.bincount(nearest, minlength=len(centers)) > 0
            centers = np.where(used[:, None], _weighted(places, weight, nearest, len(centers)), centers)
        nearest = _squares(places, centers).argmin(1)
        last = np.unique(nearest)
        return Materials(centers[last], _likeness(_weighted(mean, weight, nearest, len(centers))[last]))

    def label(self, colors: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, " N"]:
        """The material of every colour."""
        return _squares(by_material(colors), self.centers).argmin(1)


def mixed(
    shares: Float[np.ndarray, "N K"], colors: Float[np.ndarray, "N K 3"], materials: Materials
) -> Float[np.ndarray, "N 3"]:
    """The colour of the material that has the greatest share, mixed with those of materials like it.

    A mean would mix colours that nothing has; the most common colour keeps edges as sharp as they are.

    Args:
        shares: of each material at every place.
        colors: of each material there.
    """
    # einsum, not a product of matrices, whose sums may run in another order on more threads
    chosen = np.einsum("nk,kj->nj", shares, materials.alike).argmax(1)
    weight = shares * materials.alike[chosen]
    return np.asarray(np.einsum("nk,nkc->nc", weight, colors) / weight.sum(1)[:, None].clip(1e-12))


def by_material(colors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Coordinates in which a material's colours in light and shade lie close together."""
    found = lab(colors)
    lightness = found[:, :1]
    return np.concatenate([LIGHTNESS * lightness, found[:, 1:] * (CHROMA / (lightness + DARK))], 1)


def lab(colors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """CIELAB (D65) of sRGB-encoded colours."""
    pixels = np.ascontiguousarray(colors, np.float32).reshape(-1, 1, 3)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float64)


def _likeness(colors: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K K"]:
    places = lab(colors)
    chroma, hue = np.hypot(places[:, 1], places[:, 2]), np.arctan2(places[:, 2], places[:, 1])
    turn = np.abs((hue[:, None] - hue + np.pi) % (2 * np.pi) - np.pi)
    shades = (np.minimum(chroma[:, None], chroma) > COLORFUL) & (turn < HUE)
    return np.where(shades, 1.0, np.exp(-_squares(places, places) / (2 * ALIKE**2)))


def _squares(one: Float[np.ndarray, "N C"], two: Float[np.ndarray, "K C"]) -> Float[np.ndarray, "N K"]:
    return np.asarray(sum((one[:, None, i] - two[None, :, i]) ** 2 for i in range(one.shape[1])))


def _means(
    values: Float[np.ndarray, "N C"], group: Int[np.ndarray, " N"], total: Float[np.ndarray, " G"]
) -> Float[np.ndarray, "G C"]:
    sums = [np.bincount(group, values[:, i], len(total)) for i in range(values.shape[1])]
    return np.stack(sums, 1) / total[:, None].clip(1e-12)


def _weighted(
    values: Float[np.ndarray, "N C"], weight: Float[np.ndarray, " N"], group: Int[np.ndarray, " N"], count: int
) -> Float[np.ndarray, "G C"]:
    return _means(values * weight[:, None], group, np.bincount(group, weight, count))
