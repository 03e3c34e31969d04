"""Colours of a distance: from dark blue, which is none, through green and yellow to red."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

STOPS = (
    (0.0, (0.13, 0.19, 0.44)),
    (0.2, (0.15, 0.47, 0.56)),
    (0.4, (0.36, 0.70, 0.44)),
    (0.6, (0.93, 0.83, 0.32)),
    (0.8, (0.91, 0.47, 0.20)),
    (1.0, (0.72, 0.10, 0.20)),
)
"""Share of the scale, and the colour there (sRGB)."""


def error_colors(values: Float[np.ndarray, " N"], scale: float) -> Float[np.ndarray, "N 3"]:
    """Args: values: distances; scale: the distance from which on the last colour is taken."""
    shares = np.clip(values / scale, 0, 1)
    at = [stop for stop, _color in STOPS]
    return np.stack([np.interp(shares, at, [color[channel] for _at, color in STOPS]) for channel in range(3)], -1)


def ramp_css() -> str:
    """The same colours as a CSS gradient, left to right."""
    steps = (f"rgb({' '.join(str(round(255 * part)) for part in color)}) {at:.0%}" for at, color in STOPS)
    return f"linear-gradient(to right, {', '.join(steps)})"
