"""Registration of photos of one object from several sides: a common scale and position.

Each photo was framed by itself, so that its scale and its place in the frame are unknown. What two photos share are the
planes through both cameras that touch the object (epipolar tangents; Cipolla, Astrom and Giblin 1995, "Motion from the
frontier of curved surfaces"): such a plane touches it in a point that lies on both outlines, and so touches both of
them. Of photos from across there are two, one above and one below. The photos are scaled and moved up or down until the
planes of all pairs agree. That the highest points of two silhouettes are one point of the object, which is simpler, is
wrong under perspective: a part is seen the higher the nearer it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras

_DIGITS = 6
_EXACT = 1e-12
"""Relative change at which the solution is left as it is."""
_ACROSS = 0.5
"""Cosine of the directions of two cameras below which they show each other's depth."""
Points = Float[np.ndarray, "N 2"]


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


def place_photos(masks: Sequence[Bool[Tensor, "S S"]], cameras: Cameras, fill: float) -> list[Placement]:
    """Where photos of one object belong in their cameras' pictures: each in the middle from left to right.

    Args:
        masks: where each photo shows the object; the first is the front.
        cameras: of the photos, at right angles to each other or opposite.
        fill: half the larger extent of the object in any of the placed photos, in half sides of the picture.

    Raises:
        BadInput: a mask is empty.
    """
    # in float64, and rounded at the end: the last bits depend on where in memory numbers lie, and pictures must not
    views = [_View.of(mask, cameras, number) for number, mask in enumerate(masks)]
    extents = np.array([np.ptp(view.outline, 0) for view in views])
    middles = np.array([(view.outline.max(0) + view.outline.min(0)) / 2 for view in views])
    pairs = [
        (one, other)
        for number, one in enumerate(views)
        for other in views[:number]
        if abs(float(one.forward @ other.forward)) < _ACROSS
    ]
    count = len(views)

    def faults(unknown: np.ndarray) -> np.ndarray:
        """What the logarithms of the scales and the heights of the middles must bring to zero."""
        scales, rows = np.exp(unknown[:count]), unknown[count:]
        placed = [
            (view.outline - middle) * scale + [0, row]
            for view, middle, scale, row in zip(views, middles, scales, rows, strict=True)
        ]
        found = [
            one.touching(placed[one.number], other) - other.touching(placed[other.number], one) for one, other in pairs
        ]
        if not pairs:  # front and back alone: nothing tells how far a point is away
            found = [np.log(scales * extents[:, 1] / (scales[0] * extents[0, 1])), rows - rows[0]]
        largest = np.log((scales[:, None] * extents / 2).max() / fill)
        return np.concatenate([*found, rows[:1], [largest]])

    start = np.concatenate([np.log(2 * fill / extents[:, 1]), np.zeros(count)])
    solved = least_squares(faults, start, xtol=_EXACT, ftol=_EXACT, gtol=_EXACT).x
    scales, rows = np.exp(solved[:count]), solved[count:]
    return [
        Placement(round(float(s), _DIGITS), (round(float(-s * x), _DIGITS), round(float(row - s * y), _DIGITS)))
        for s, row, (x, y) in zip(scales, rows, middles, strict=True)
    ]


@dataclass(frozen=True)
class _View:
    """A photo's outline and its camera.

    Attributes:
        outline: corners of its convex hull, in half sides from the photo's middle, y upwards.
        center: the camera's place in the world.
        axes: the camera's right, up and back in the world.
        focal: of the camera, in half sides.
    """

    number: int
    outline: Points
    center: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    focal: float

    @staticmethod
    def of(mask: Bool[Tensor, "S S"], cameras: Cameras, number: int) -> _View:
        center, axes = cameras.centers[number].double().numpy(), cameras.rotation[number].double().numpy()
        return _View(number, _outline(mask.numpy()), center, axes, float(cameras.projection[number, 0, 0]))

    @property
    def forward(self) -> Float[np.ndarray, " 3"]:
        return -self.axes[2]

    def touching(self, placed: Points, other: _View) -> Float[np.ndarray, " 2"]:
        """The planes through both cameras that touch the placed outline: their slopes, times the focal length.

        As large as the height in half sides at which they cross the middle of a picture.
        """
        between = (other.center - self.center) / np.linalg.norm(other.center - self.center)
        up = np.array([0.0, 1.0, 0.0]) - between[1] * between
        up /= np.linalg.norm(up)
        rays = np.concatenate([placed / self.focal, np.full((len(placed), 1), -1.0)], 1) @ self.axes
        angles = np.arctan2(rays @ up, np.abs(rays @ np.cross(between, up)))
        return self.focal * np.array([angles.max(), angles.min()])


def _outline(mask: np.ndarray) -> Points:
    """Corners of the convex hull of a mask's pixels, which are squares."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise BadInput("the photo shows no object", hint="give a picture whose background is transparent")
    corners = np.concatenate([np.stack([columns + x, rows + y], 1) for x in (0, 1) for y in (0, 1)])
    hull = cv2.convexHull(corners.astype(np.int32))[:, 0] / (len(mask) / 2) - 1
    return hull * [1.0, -1.0]
