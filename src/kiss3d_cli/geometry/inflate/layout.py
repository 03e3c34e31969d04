"""Relative depth of the separate components of a picture.

Things that stand on one ground are further away the higher in the picture they meet it (Hoiem et al. 2008, "Putting
objects in perspective"). A piece over another - the dot of an i, a hat in the air - says nothing of the kind: it keeps
the depth of the one below. What lies side by side at one height, as letters do, stays in one plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from kiss3d_cli.geometry.inflate.double_sheet import LEVEL

RECESSION = 0.5
"""Depth for each unit that a piece meets the ground higher, as a share of the distance to the camera and of the
picture's side: about a camera that looks down on a table by 25 degrees at the bundle's distance."""
DEEPEST = 0.15
"""Shares of the distance to the camera between the pieces in front and behind, at most."""
SAME_GROUND = 0.04
"""Share of the picture's side by which two pieces on one ground may differ: letters with descenders, a leaning toy."""

OVER = 0.3
"""A piece is over another if it is above it and so much of the narrower one's width is common."""


@dataclass(frozen=True)
class Layout:
    """
    Attributes:
        depth: (H, W) how far the piece of each pixel is behind the middle, as a share of the distance to the camera.
        count: the number of pieces.
    """

    depth: Float[np.ndarray, "H W"]
    count: int


def piece_depths(coverage: Float[np.ndarray, "H W"]) -> Layout:
    """Relative depths of a silhouette's pieces from where they meet the ground.

    Args:
        coverage: in [0, 1]; rows going down.
    """
    labels, count = ndimage.label(coverage > LEVEL, np.ones((3, 3)))
    if count <= 1:
        return Layout(np.zeros(coverage.shape), count)
    boxes = ndimage.find_objects(labels)
    top, bottom = (np.array([getattr(rows, end) for rows, _ in boxes], np.float64) for end in ("start", "stop"))
    left, right = (np.array([getattr(columns, end) for _, columns in boxes]) for end in ("start", "stop"))
    ground = bottom.copy()
    # from below upwards: what another piece holds up, or hangs over, takes that one's place
    order = np.argsort(-bottom, kind="stable")
    for place, piece in enumerate(order):
        below = order[:place]
        common = np.minimum(right[piece], right[below]) - np.maximum(left[piece], left[below])
        enough = common > OVER * np.minimum(right[piece] - left[piece], (right - left)[below])
        under = below[enough & (top[below] >= bottom[piece] - SAME_GROUND * coverage.shape[0])]
        if len(under):
            ground[piece] = ground[under[-1]]
    rise = (ground.max() - ground) / coverage.shape[0]
    behind = RECESSION * np.where(rise > SAME_GROUND, rise, 0)
    behind *= min(1.0, DEEPEST / max(float(behind.max()), 1e-9))
    behind -= (behind.max() + behind.min()) / 2
    return Layout(np.concatenate([[0.0], behind])[labels], count)
