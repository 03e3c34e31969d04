"""A picture wrapped around a mesh."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor


def png_file(pixels: UInt8[Tensor, "H W 3"]) -> bytes:
    """An image as a PNG file."""
    data = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(data, "PNG", compress_level=6, compress_type=zlib.Z_RLE)
    return data.getvalue()


@dataclass(frozen=True)
class Texture:
    """Texture coordinates of a mesh's face corners, and the picture they point into.

    The mesh keeps its own vertices: a vertex on a seam has several texture coordinates but is not split.

    Attributes:
        uv: (M, 2) in [0, 1]: u to the right, v down, (0, 0) the upper left corner of the picture, as in glTF.
        corners: (F, 3) int64, for every corner of every face its row of `uv`.
        image: (H, W, 3) sRGB-encoded.
    """

    uv: Float[Tensor, "M 2"]
    corners: Int[Tensor, "F 3"]
    image: UInt8[Tensor, "H W 3"]

    @cached_property
    def png(self) -> bytes:
        """The image as a file."""
        return png_file(self.image)


def sampled(image: UInt8[Tensor, "H W 3"], uv: Float[Tensor, "T 2"]) -> Float[Tensor, "T 3"]:
    """Bilinear, in [0, 1]."""
    picture = image.permute(2, 0, 1)[None].float() / 255
    grid = (uv.float() * 2 - 1)[None, None]
    return torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)[0, :, 0].T
