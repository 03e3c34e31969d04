"""Silhouettes: how a mesh's outline agrees with masks of the same object, and what parts a mask has."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras

THIN = 6 / 512
"""Parts of a silhouette narrower than this share of the picture's side are thin."""
REACH = 1 / 64
"""Share of the picture's side: what is missing so far from all that a front shows is a part, not a shifted outline."""
_NEAR = 1.5
"""Pixels from what is shown up to which a pixel counts as shown."""
_ROUNDS = 5
"""Each round's error is a small share of the one before: perspective bends extents only a little."""


def silhouette_scale(vertices: Float[Tensor, "N 3"], masks: Bool[Tensor, "V H W"], cameras: Cameras) -> float:
    """The factor about the origin after which the points extend as far in the views as the masks do.

    It is the median over the widths and heights of all views, so that one cut off or ragged mask does little.

    Raises:
        BadInput: a mask is empty.
    """
    if not masks.flatten(1).any(1).all():
        raise BadInput("a view shows no object", hint="look at the views: each must show the object on white")
    wanted = torch.stack([_extent(masks.any(1)), _extent(masks.any(2))], 1)
    scale = 1.0
    for _ in range(_ROUNDS):
        clip = cameras.clip(scale * vertices)
        flat = clip[..., :2] / clip[..., 3:]
        scale *= float((wanted / (flat.amax(1) - flat.amin(1))).median())
    return scale


def _extent(line: Bool[Tensor, "V K"]) -> Float[Tensor, " V"]:
    """From the first to the last True, in units of half the line, as clip space has it."""
    first = line.int().argmax(1)
    last = line.shape[1] - line.flip(1).int().argmax(1)
    return 2 * (last - first) / line.shape[1]


def depth_inside(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Distance of every pixel to the nearest that is not in the mask, exactly; infinite without one.

    OpenCV's transform (Felzenszwalb and Huttenlocher 2012) is five times faster than SciPy's. The last bits of its
    roots depend on where memory happens to lie; their squares are whole numbers, and rounded to them here.
    """
    if mask.all():
        return np.full(mask.shape, np.inf)
    found = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.sqrt(np.rint(found.astype(np.float64) ** 2)))


def thin_parts(mask: Bool[np.ndarray, "S S"]) -> Bool[np.ndarray, "S S"]:
    """The parts of a mask narrower than `THIN`; corners of wide parts are none.

    What an opening by a disc takes away is a part if it is longer than the disc is wide.
    """
    width = max(3, round(THIN * len(mask)))
    inside = depth_inside(np.pad(mask, width))
    core = inside > width / 2
    opened = depth_inside(~core) <= width / 2 if core.any() else np.zeros_like(core)
    rest = mask & ~opened[width:-width, width:-width]
    return long_parts(rest, width)


def long_parts(mask: Bool[np.ndarray, "S S"], length: int) -> Bool[np.ndarray, "S S"]:
    """The connected parts of a mask whose boxes are longer than so many pixels."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    long = [max(side.stop - side.start for side in box) > length for box in ndimage.find_objects(labels)]
    return np.asarray(np.array([False, *long])[labels])


def pieces_of(mask: Bool[np.ndarray, "S S"]) -> list[int]:
    """Pixels of each separate part of a mask, largest first; parts nowhere two pixels wide are specks and left out."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    solid = np.unique(labels[ndimage.binary_opening(mask, np.ones((2, 2), bool))])
    areas = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    return sorted((int(areas[number - 1]) for number in solid if number), reverse=True)


def missing_regions(
    mask: Bool[np.ndarray, "S S"], shown: Bool[np.ndarray, "S S"]
) -> tuple[Int[np.ndarray, "S S"], list[int]]:
    """Labels of the mask's pixels that a front does not show, and the numbers of those that are parts, largest first.

    Parts are wider than a pixel somewhere, and reach `REACH` away from all that is shown.
    """
    wide = ndimage.binary_opening(mask, np.ones((2, 2), bool))
    away = depth_inside(~shown)
    labels, count = ndimage.label(wide & (away > _NEAR), np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    reach = np.atleast_1d(ndimage.maximum(away, labels, numbers)) if count else np.zeros(0)
    lost = numbers[reach > REACH * len(mask)]
    areas = np.bincount(labels.reshape(-1), minlength=count + 1)[lost]
    return labels, lost[np.argsort(-areas, kind="stable")].tolist()
