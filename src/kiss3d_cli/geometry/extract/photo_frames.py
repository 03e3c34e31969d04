"""Photos of one object from several sides, brought to one scale along the axis that they share.

Each photo was framed by itself, so that its scale and its place in the frame are unknown. What the photos share is the
object's height: its highest and its lowest point. Under perspective the height in a picture depends on how far those
points are from the camera, which a photo of another side shows: what is left and right there is near and far here. So
the two points are located in space, and each photo is scaled and moved until it shows them where its camera would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras

TIP = 0.01
"""Share of the object's height over which the place of its highest and of its lowest point is averaged."""
_DIGITS = 6
_ROUNDS = 12
"""Each round's error is a small share of the one before: perspective bends extents only a little."""


@dataclass(frozen=True)
class Placement:
    """Where a photo belongs in its camera's picture: a point p of the photo is shown at `scale * p + shift`.

    Attributes:
        scale: above 1 the photo is enlarged.
        shift: to the right and up; like the points in half sides of the picture, from its middle.
    """

    scale: float
    shift: tuple[float, float]

    def window(self, side: int) -> tuple[float, float, float]:
        """Left and top edge and side of the square of a photo that its camera shows, in pixels.

        Args:
            side: of the photo.
        """
        (x, y), half = self.shift, side / 2
        return half * (1 - (1 + x) / self.scale), half * (1 - (1 - y) / self.scale), side / self.scale


@dataclass(frozen=True)
class _Outline:
    """What is measured in a photo, in half sides from its middle, y upwards: column and row of both ends."""

    top: tuple[float, float]
    bottom: tuple[float, float]
    left: float
    right: float

    @property
    def center(self) -> float:
        return (self.left + self.right) / 2


def place_photos(masks: Sequence[Bool[Tensor, "S S"]], cameras: Cameras, fill: float) -> list[Placement]:
    """Where photos of one object belong in their cameras' pictures.

    Args:
        masks: where each photo shows the object; the first is the front.
        cameras: of the photos, at right angles to each other or opposite.
        fill: half the larger extent of the object in any of the placed photos, in half sides of the picture.

    Raises:
        BadInput: a mask is empty.
    """
    # in float64, and rounded at the end: the last bits depend on where in memory numbers lie, and pictures must not
    cameras = Cameras(cameras.world_to_camera.double(), cameras.projection.double())
    outlines = [_outline(mask) for mask in masks]
    heights = [each.top[1] - each.bottom[1] for each in outlines]
    scales = [fill * 2 / height for height in heights]
    rows = [-scale * (each.top[1] + each.bottom[1]) / 2 for scale, each in zip(scales, outlines, strict=True)]
    for _ in range(_ROUNDS):
        # whatever is too wide or too high decides the size of all
        extents = [
            max(scale * (each.right - each.left), scale * height) / 2
            for scale, each, height in zip(scales, outlines, heights, strict=True)
        ]
        shrink = fill / max(extents)
        scales = [scale * shrink for scale in scales]
        rows = [row * shrink for row in rows]
        ends = [
            _in_space([_seen(each, name, s, y) for each, s, y in zip(outlines, scales, rows, strict=True)], cameras)
            for name in ("top", "bottom")
        ]
        flat = cameras.clip(torch.stack(ends))
        wanted = (flat[..., 1] / flat[..., 3]).tolist()
        for view, (each, (top, bottom)) in enumerate(zip(outlines, wanted, strict=True)):
            scales[view] = (top - bottom) / heights[view]
            rows[view] = (top + bottom) / 2 - scales[view] * (each.top[1] + each.bottom[1]) / 2
    return [
        Placement(round(s, _DIGITS), (round(-s * each.center, _DIGITS), round(y, _DIGITS)))
        for each, s, y in zip(outlines, scales, rows, strict=True)
    ]


def _outline(mask: Bool[Tensor, "S S"]) -> _Outline:
    shown = mask.numpy()
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if not len(rows):
        raise BadInput("the photo shows no object", hint="give a picture whose background is transparent")
    half = len(shown) / 2
    depth = max(1, round(TIP * len(rows)))
    place = (np.arange(len(shown)) + 0.5) / half - 1
    top, bottom = (
        (shown[rows_].sum(0) * place).sum() / shown[rows_].sum()
        for rows_ in (slice(rows[0], rows[0] + depth), slice(rows[-1] + 1 - depth, rows[-1] + 1))
    )
    return _Outline(
        (float(top), 1 - rows[0] / half),
        (float(bottom), 1 - (rows[-1] + 1) / half),
        columns[0] / half - 1,
        (columns[-1] + 1) / half - 1,
    )


def _seen(outline: _Outline, end: str, scale: float, row: float) -> tuple[float, float]:
    """Where an end of the object lies in the placed photo."""
    x, y = getattr(outline, end)
    return scale * (x - outline.center), scale * y + row


def _in_space(seen: Sequence[tuple[float, float]], cameras: Cameras) -> Float[Tensor, " 3"]:
    """The point that the photos show there: across from all of them, its height from the front.

    Along directions that no photo shows across, the point is taken to lie in the middle.
    """
    point = cameras.projection.new_zeros(3)
    for _ in range(_ROUNDS):
        depth = cameras.clip(point[None])[:, 0, 3]
        unit = depth / cameras.projection[:, 0, 0]
        right, up = cameras.rotation[:, 0], cameras.rotation[:, 1]
        across = torch.tensor([x for x, _ in seen]).to(unit) * unit
        # least squares with a little pull to the middle: front and back say the same, and leave the depth open
        equations = torch.cat([right, 1e-3 * torch.eye(3).to(right), up[:1]])
        values = torch.cat([across, across.new_zeros(3), unit[:1] * seen[0][1]])
        point = torch.linalg.lstsq(equations, values[:, None]).solution[:, 0]
    return point
