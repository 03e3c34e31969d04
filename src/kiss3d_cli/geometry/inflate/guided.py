"""Guided upsampling: coarse maps at a picture's resolution, with discontinuities at its edges."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

RADIUS = 3
"""Coarse pixels on each side of a window."""
SMOOTHNESS = 4e-3
"""Variance of colour below which a window counts as even, and its values are averaged."""


def guided(
    values: Float[np.ndarray, "C s s"],
    rgb: Float[np.ndarray, "S S 3"],
    inside: Bool[np.ndarray, "s s"],
    side: int,
) -> Float[np.ndarray, "C n n"]:
    """Values as local linear functions of the picture's colours, evaluated at another resolution.

    The fast guided filter (He and Sun 2015) over the silhouette alone: what lies outside has no say.

    Args:
        values: coarse maps.
        rgb: the picture, sRGB-encoded, in [0, 1].
        inside: where the values count; elsewhere the result goes on from the nearest of them.
        side: pixels a side of the result.
    """
    coarse = cv2.resize(rgb, inside.shape[::-1], interpolation=cv2.INTER_AREA)
    weight = _window(inside.astype(np.float64))
    share = np.maximum(weight, 1e-9)

    def mean(field: np.ndarray) -> np.ndarray:
        return _window(np.where(inside, field, 0)) / share

    center = np.stack([mean(coarse[..., c]) for c in range(3)], -1)
    spread = np.empty((*inside.shape, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            both = mean(coarse[..., i] * coarse[..., j]) - center[..., i] * center[..., j]
            spread[..., i, j] = spread[..., j, i] = both
    spread += SMOOTHNESS * np.eye(3)
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    fine = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
    found = []
    for channel in values:
        level = mean(channel)
        joint = np.stack([mean(coarse[..., c] * channel) - center[..., c] * level for c in range(3)], -1)
        slope = np.linalg.solve(spread, joint[..., None])[..., 0]
        offset = level - (slope * center).sum(-1)
        terms = [mean(slope[..., c]) for c in range(3)] + [mean(offset)]
        large = [
            cv2.resize(term[nearest[0], nearest[1]], (side, side), interpolation=cv2.INTER_LINEAR) for term in terms
        ]
        found.append(sum(large[c] * fine[..., c] for c in range(3)) + large[3])
    return np.asarray(np.stack(found))


def _window(field: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    return np.asarray(ndimage.uniform_filter(field, 2 * RADIUS + 1, mode="constant"))
