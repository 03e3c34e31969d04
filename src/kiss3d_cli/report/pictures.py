"""Pictures as data URIs, made small."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kiss3d_cli.image.picture import load_picture

QUALITY = 86


def data_uri(data: bytes, kind: str) -> str:
    """Args: kind: the media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def file_uri(path: Path, side: int) -> str:
    """A picture file, scaled down to at most `side` pixels in its longer direction; transparency stays.

    Raises:
        BadInput, OutOfMemory: it can't be read.
    """
    picture = load_picture(path, min_side=1)
    pixels = picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])
    return pixels_uri(pixels, side)


def pixels_uri(pixels: UInt8[np.ndarray, "H W C"], side: int) -> str:
    """RGB becomes JPEG, RGBA becomes WebP."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    data = io.BytesIO()
    if image.mode == "RGBA":
        image.save(data, "WEBP", quality=QUALITY, method=2)
        return data_uri(data.getvalue(), "image/webp")
    image.save(data, "JPEG", quality=QUALITY, subsampling=0)
    return data_uri(data.getvalue(), "image/jpeg")
