"""Colours for the texels around the charts of an atlas."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8


def fill_around(image: UInt8[np.ndarray, "H W 3"], inside: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with means of its inside around it: of 2 x 2 pixels, of 4 x 4 where those hold none, and so on.

    That is what mipmaps mix (pull and push: Gortler et al. 1996, 4.3). Next to the inside, where a bilinear filter
    reads, it is the mean of the pixels that touch.

    Args:
        image: zero outside.
        inside: anything but empty.
    """
    # sums of whole numbers, which are the same in any order
    touching, beside = (
        cv2.boxFilter(part, cv2.CV_32S, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for part in (image, inside.astype(np.uint8))
    )
    rim = ~inside & (beside > 0)
    image = image.copy()
    image[rim] = np.rint(touching[rim] / beside[rim][:, None])
    inside = inside | rim
    colors, weights = [image.astype(np.float32)], [inside.astype(np.float32)]
    while not weights[-1].all():
        height, width = weights[-1].shape
        half = ((width + 1) // 2, (height + 1) // 2)
        colors.append(cv2.resize(colors[-1], half, interpolation=cv2.INTER_AREA))
        weights.append(cv2.resize(weights[-1], half, interpolation=cv2.INTER_AREA))
    wide = colors[-1] / weights[-1][..., None]
    for color, weight in zip(colors[-2:0:-1], weights[-2:0:-1], strict=True):
        wide = cv2.resize(wide, weight.shape[::-1], interpolation=cv2.INTER_NEAREST)
        wide = np.where(weight[..., None] > 0, color / np.maximum(weight, 1e-6)[..., None], wide)
    outside = cv2.resize(np.rint(wide).astype(np.uint8), inside.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.where(inside[..., None], image, outside)
