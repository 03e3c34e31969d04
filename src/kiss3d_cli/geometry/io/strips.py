"""Triangle strips and fans as triangles, all turned the same way."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Integer


def strip_triangles(strip: Integer[np.ndarray, " S"]) -> Int[np.ndarray, "F 3"]:
    """Every three neighbours of a strip; every other triangle is turned over, as OpenGL does it.

    Triangles with a vertex twice only connect pieces of a strip, and are left out.
    """
    count = max(len(strip) - 2, 0)
    first = np.arange(count)
    odd = first % 2
    triangles = strip[np.stack([first, first + 1 + odd, first + 2 - odd], 1)].astype(np.int64).reshape(-1, 3)
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (c != a)]


def fan_triangles(fan: Integer[np.ndarray, " S"]) -> Int[np.ndarray, "F 3"]:
    """Every two neighbours with the first vertex (glTF 2.0: i + 1, i + 2, 0)."""
    count = max(len(fan) - 2, 0)
    first = np.arange(count)
    triangles = fan[np.stack([np.zeros(count, np.int64), first + 1, first + 2], 1)]
    return triangles.astype(np.int64).reshape(-1, 3)
