"""Pictures of our own on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W 4"] | UInt8[np.ndarray, "H W"] | Bool[np.ndarray, "H W"]


def write_png(path: Path, pixels: Pixels) -> None:
    """Write RGB, RGBA, grey or a mask (True is white). The same pixels give the same bytes."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=6)


def read_png(path: Path) -> UInt8[np.ndarray, "H W *C"]:
    """Read a picture that `write_png` wrote: (H, W, 3), (H, W, 4) or (H, W)."""
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image)
