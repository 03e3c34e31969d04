"""The sRGB transfer function (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def srgb_to_linear(encoded: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """sRGB-encoded values in [0, 1] to linear light in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((np.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """Linear light in [0, 1] to sRGB-encoded values in [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)
