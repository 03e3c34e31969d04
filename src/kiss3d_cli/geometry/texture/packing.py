"""Packing of charts into one square texture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from kiss3d_cli.core.errors import BadInput

PADDING = 4
"""Pixels between two charts, at least."""
VIEW = 512
"""Pixels a side of the views, for which charts are laid out: at density 1 a chart has one texel for each."""
_STEP = 0.95
_COARSEST = 0.4
"""Least share of the important charts' density that the others get before both are made smaller."""


def pack(
    places: Float[np.ndarray, "M 2"], chart: Int[np.ndarray, " M"], important: Bool[np.ndarray, " C"], size: int
) -> Float[np.ndarray, "M 2"]:
    """Places in a picture of `size` pixels, such that the charts' boxes have `PADDING` pixels between each other.

    Important charts get one texel for each pixel of the view (twice as many in each direction where the picture has
    2,048, and so on), and stay on its grid, unless there is not room enough; the others get what is left.

    Args:
        places: in shares of a view's side.
        chart: of each place, from 0 to C - 1; each has one.
        important: of each chart.
        size: pixels a side.

    Raises:
        BadInput: there is no room, were each chart as small as pixels are.
    """
    count = len(important)
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, chart, places)
    np.maximum.at(high, chart, places)
    density = size / 1024
    share = 1.0
    while True:
        scale = np.where(important, density, density * share) * VIEW
        begin = np.floor(low * scale[:, None])
        extent = (np.ceil(high * scale[:, None]) - begin).astype(np.int64).clip(1)
        boxes = extent + PADDING
        fits = boxes.prod(1).sum() <= (size - PADDING) ** 2
        corner = _shelves(boxes, size - PADDING) if fits else None
        if corner is None and extent.max() <= 2:  # each on one pixel, or across the border of two
            raise BadInput(
                f"{count:,} charts do not fit into a texture of {size} pixels", hint="ask for a larger texture"
            )
        if corner is not None:
            return places * scale[chart, None] - begin[chart] + corner[chart] + PADDING
        share *= _STEP
        if share < _COARSEST:
            density, share = density * _STEP, 1.0


def _shelves(boxes: Int[np.ndarray, "C 2"], size: int) -> Int[np.ndarray, "C 2"] | None:
    """Upper left corners of boxes (width, height) in a square, in rows of falling height; None if they do not fit.

    A box goes onto the first shelf that has room (first fit by decreasing height: Coffman et al. 1980).
    """
    corner = np.zeros_like(boxes)
    shelves: list[list[int]] = []  # top, height, used width
    bottom = 0
    for number in np.lexsort((-boxes[:, 0], -boxes[:, 1])):
        width, height = (int(side) for side in boxes[number])
        shelf = next((shelf for shelf in shelves if shelf[2] + width <= size), None)
        if shelf is None:
            if width > size or bottom + height > size:
                return None
            shelf = [bottom, height, 0]
            shelves.append(shelf)
            bottom += height
        corner[number] = shelf[2], shelf[0]
        shelf[2] += width
    return corner
