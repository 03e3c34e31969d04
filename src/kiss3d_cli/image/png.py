"""Pictures of our own on disk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

Pixels = UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W 4"] | UInt8[np.ndarray, "H W"] | Bool[np.ndarray, "H W"]


def write_png(path: Path, pixels: Pixels, texts: Mapping[str, str] | None = None) -> None:
    """Write RGB, RGBA, grey or a mask (True is white). The same pixels and texts give the same bytes.

    Matches are looked for one pixel back alone: a third of the time, and as few bytes after PNG's own filters.
    """
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        path, format="PNG", compress_level=6, compress_type=zlib.Z_RLE, pnginfo=_chunks(texts or {})
    )


def _chunks(texts: Mapping[str, str]) -> PngInfo | None:
    if not texts:
        return None
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return info


def read_text(path: Path, key: str) -> str | None:
    """A text that a PNG holds; None without it, or if the file is none."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            text = image.info.get(key)
    except (OSError, ValueError, SyntaxError):
        return None
    return text if isinstance(text, str) else None


def read_png(path: Path) -> UInt8[np.ndarray, "H W *C"]:
    """Read a picture that `write_png` wrote: (H, W, 3), (H, W, 4) or (H, W)."""
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image)
