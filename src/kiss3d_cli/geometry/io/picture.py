"""Texture lookup at points."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from kiss3d_cli.core.color_space import linear_to_srgb, srgb_to_linear

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TGA", "TIFF", "GIF", "DDS", "AVIF", "JPEG2000", "PPM")
_MOST_PIXELS = 8192 * 8192
REPEAT, MIRROR, CLAMP = "repeat", "mirror", "clamp"


class NoPicture(ValueError):
    """Why a texture can't be looked at, as the end of a sentence."""


@dataclass(frozen=True)
class Picture:
    """A picture with what outside of it is taken for.

    Attributes:
        pixels: (H, W, 3), sRGB-encoded, row 0 on top.
        wrap: what happens beyond the left and right edge, and beyond the upper and lower one.
        nearest: take the nearest pixel, where the file asks for that; else the four around, weighted.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    wrap: tuple[str, str] = (REPEAT, REPEAT)
    nearest: bool = False

    def linear(self, uv: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M 3"]:
        """Linear light at points; (0, 0) is the upper left corner, (1, 1) the lower right one.

        Pixels are decoded before they are mixed, as glTF 2.0 wants (section 3.9.2).

        Raises:
            NoPicture: a coordinate is not finite.
        """
        if not np.isfinite(uv).all():
            raise NoPicture("has texture coordinates that are not finite")
        height, width = self.pixels.shape[:2]
        u, v = (_wrapped(uv[:, axis].astype(np.float64), self.wrap[axis]) for axis in (0, 1))
        across, down = u * width - 0.5, v * height - 0.5
        if self.nearest:
            return self._pixel(np.floor(across + 0.5), np.floor(down + 0.5))
        column, row = np.floor(across), np.floor(down)
        right, lower = (across - column)[:, None], (down - row)[:, None]
        upper_row = self._pixel(column, row) * (1 - right) + self._pixel(column + 1, row) * right
        lower_row = self._pixel(column, row + 1) * (1 - right) + self._pixel(column + 1, row + 1) * right
        return upper_row * (1 - lower) + lower_row * lower

    def _pixel(self, column: Float[np.ndarray, " M"], row: Float[np.ndarray, " M"]) -> Float[np.ndarray, "M 3"]:
        height, width = self.pixels.shape[:2]
        i = _inside(row.astype(np.int64), height, self.wrap[1])
        j = _inside(column.astype(np.int64), width, self.wrap[0])
        return _LINEAR[self.pixels[i, j]]


_LINEAR = srgb_to_linear(np.arange(256) / 255)


def _wrapped(value: Float[np.ndarray, " M"], wrap: str) -> Float[np.ndarray, " M"]:
    """A coordinate whose integer part is small enough to count pixels with."""
    if wrap == CLAMP:
        return value.clip(0, 1)
    return value - 2 * np.floor(value / 2)


def _inside(index: np.ndarray, size: int, wrap: str) -> np.ndarray:
    if wrap == CLAMP:
        return index.clip(0, size - 1)
    if wrap == REPEAT:
        return index % size
    folded = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def open_picture(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a texture file, without its alpha.

    Raises:
        NoPicture: it is no picture, is damaged, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > _MOST_PIXELS:
                raise NoPicture(f"is too large ({image.width} x {image.height} pixels)")
            if image.mode.startswith("I") or image.mode == "F":  # 16 bits of grey, which PIL would cut off
                grey = np.asarray(image, np.float64)
                eight = (grey.clip(0, 65535) / 257).round().astype(np.uint8)
                return np.repeat(eight[..., None], 3, 2)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except NoPicture:
        raise
    except Exception as error:  # PIL raises whatever the damage leads to
        raise NoPicture("is not a picture that can be read") from error


def encoded(linear: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
    """Linear light as sRGB in [0, 1]."""
    return linear_to_srgb(linear.clip(0, 1))
