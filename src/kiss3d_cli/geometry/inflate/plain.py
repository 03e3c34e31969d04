"""The plain inflation that the learned prior corrects. The prior's weights depend on it: it must not change."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.inflate.heights import poisson_solver

SOURCE = 3.0
"""Between a ball of a disc (4) and a round rod of a strip (2)."""


GRID = 64
"""Samples a side on which it is solved; the squared height is smooth, and interpolated between them."""


def plain_heights(alpha: Float[np.ndarray, "S S"], side: int) -> Float[np.ndarray, "s s"]:
    """Height over the mid-plane, in half picture sides: the square root of u with laplacian(u) = -3 in the silhouette.

    Args:
        alpha: coverage in [0, 1]; what is over one half is the silhouette, and u is 0 on its outline.
        side: samples a side of the result.
    """
    coverage = np.pad(cv2.resize(np.asarray(alpha, np.float64), (GRID, GRID), interpolation=cv2.INTER_AREA), 1)
    if not (coverage > 0.5).any():
        return np.zeros((side, side))
    u = poisson_solver(coverage)(np.full_like(coverage, SOURCE))[1:-1, 1:-1]
    return np.asarray(np.sqrt(np.maximum(cv2.resize(u, (side, side), interpolation=cv2.INTER_LINEAR), 0)) * (2 / GRID))
