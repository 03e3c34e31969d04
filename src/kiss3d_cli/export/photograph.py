"""The original picture of a run, projected onto the front of its mesh at full resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt

from kiss3d_cli.core.records import BadRecord, Fields, read_json
from kiss3d_cli.evaluation.front_check import fit_front, moved, overlap
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_texture
from kiss3d_cli.geometry.texture.project import Photographs
from kiss3d_cli.geometry.texture.texture import Texture
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import read_png

OVERLAP, LIKENESS = 0.97, 22.0
"""Intersection over union of the front and the picture's mask, and decibels between what the two show, blurred, from
which the front is the picture."""
_BLUR = 3.0
"""Pixels of the framed picture over which they are compared."""
_PURE = 0.95
"""Alpha from which nothing of the background is mixed into a pixel."""
_FARTHEST = 1e6
"""Pixels."""
_AROUND = 0.012
"""Share of the picture's side over which colours go on beyond the object, for a mesh that is a little larger."""


@dataclass(frozen=True)
class RunPicture:
    """What a run keeps of its picture.

    Attributes:
        picture: as it was given.
        framed: with alpha, as the run saw it.
        window: which part of the picture that is.
        radius: of the front camera.
    """

    picture: Path
    framed: Path
    window: Path
    radius: float


def photograph(mesh: Mesh, texture: Texture, origin: RunPicture, most: int) -> tuple[Photographs | None, str]:
    """The picture as a photograph of the mesh, and what is to be said if it is none.

    Args:
        mesh: in the run's world, on the CPU.
        most: pixels a side that are of use.

    Raises:
        BadInput: the picture can't be read.
    """
    try:
        fields = Fields(read_json(origin.window))
        window = tuple(fields.number(name, -_FARTHEST) for name in ("left", "top", "side"))
        if not 0 < window[2] <= _FARTHEST or max(window) > _FARTHEST:
            raise BadRecord("it frames nothing")
    except (BadRecord, OSError):
        return None, ""
    framed = read_png(origin.framed)
    mask: Bool[np.ndarray, "S S"] = framed[..., 3] >= 128
    if not mask.any():
        return None, ""
    camera, _, shown = fit_front(mesh, bundle_cameras(origin.radius)[[0]], mask)
    if overlap(shown, mask) < OVERLAP:
        return None, "The front is not where the picture shows it: its texture stays as it is."
    front = render_texture(mesh, texture, camera, mask.shape, antialiased=False).colors[0].numpy()
    if _likeness(front, framed[..., :3] / 255.0, mask & shown) < LIKENESS:
        return None, "The front is painted otherwise than the picture: its texture stays as it is."
    image, pure, scale, shift = _cropped(origin.picture, framed[..., 3], window)
    if len(image) > most:
        image = cv2.resize(image, (most, most), interpolation=cv2.INTER_AREA)
        pure = cv2.resize(pure.astype(np.uint8), (most, most), interpolation=cv2.INTER_NEAREST) > 0
    if not pure.any():
        return None, ""
    away, (row, column) = distance_transform_edt(~pure, return_indices=True)
    covered = torch.from_numpy(away <= _AROUND * len(image))
    colors = torch.from_numpy(image[row, column]).float() / 255
    taken = moved(camera, scale, shift)
    return Photographs(taken, colors[None], covered[None], torch.ones(1), exact=True, carried_on=True), ""


def _likeness(
    one: Float[np.ndarray, "S S 3"], two: Float[np.ndarray, "S S 3"], where: Bool[np.ndarray, "S S"]
) -> float:
    """Decibels between two pictures, each blurred within that region."""
    inside = where.astype(np.float64)
    weight = np.maximum(cv2.GaussianBlur(inside, (0, 0), _BLUR), 1e-6)[..., None]
    difference = cv2.GaussianBlur((one - two).astype(np.float64) * inside[..., None], (0, 0), _BLUR) / weight
    return -10 * math.log10(max(1e-10, float((difference[where] ** 2).mean()))) if where.any() else 0.0


def _cropped(
    path: Path, alpha: UInt8[np.ndarray, "S S"], window: tuple[float, ...]
) -> tuple[UInt8[np.ndarray, "P P 3"], Bool[np.ndarray, "P P"], float, Float[np.ndarray, " 2"]]:
    """The square of whole pixels around the object, without resampling.

    Returns:
        Its colours; where they are the object's alone; and by how much a camera's picture of the window is to be
        scaled and shifted, in half sides to the right and up, to be a picture of the square.
    """
    left, top, side = window
    scale = len(alpha) / side
    used_rows, used_columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    x, y = math.floor(left + used_columns[0] / scale), math.floor(top + used_rows[0] / scale)
    picture = load_picture(path)
    height, width = picture.rgb.shape[:2]
    extent = max(left + (used_columns[-1] + 1) / scale - x, top + (used_rows[-1] + 1) / scale - y)
    pixels = math.ceil(min(extent, 2 * max(height, width)))  # no record may ask for more
    rows, columns = slice(max(y, 0), min(y + pixels, height)), slice(max(x, 0), min(x + pixels, width))
    there = slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)
    image = np.zeros((pixels, pixels, 3), np.uint8)
    image[there] = picture.rgb[rows, columns]
    line = np.arange(pixels, dtype=np.float32) + 0.5
    at_x, at_y = np.meshgrid((line + (x - left)) * scale - 0.5, (line + (y - top)) * scale - 0.5)
    cover = cv2.remap(alpha, at_x.astype(np.float32), at_y.astype(np.float32), cv2.INTER_LINEAR, borderValue=0)
    pure = cover >= _PURE * 255
    if picture.alpha is not None:  # colours are not mixed with what lies behind them
        own = np.zeros((pixels, pixels), bool)
        own[there] = picture.alpha[rows, columns] >= 128
        pure |= own & (cover >= 64)
    inside = np.zeros_like(pure)
    inside[there] = True
    middle = np.array([2 * (left - x) + side, 2 * (top - y) + side]) / pixels - 1
    return image, pure & inside, side / pixels, middle * [1, -1]
