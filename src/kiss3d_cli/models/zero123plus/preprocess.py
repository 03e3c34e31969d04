"""The two feature extractors of the model folder: a picture as the VAE and as CLIP want it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.pretrained import read_json


@dataclass(frozen=True)
class FeatureExtractor:
    """Resize, crop, rescale and normalise, as a `preprocessor_config.json` says.

    The library's own extractor resamples otherwise where torchvision is installed; this one does not depend on it.

    Attributes:
        size: height and width after resizing, in pixels; one number is the length of the shorter edge, None keeps
            the size.
        crop: height and width of the centred rectangle that is kept, filled up with zeros where the picture is
            smaller; None keeps everything.
        resample: PIL's number of the resampling filter.
        factor: that the 8-bit values are multiplied by.
        mean, deviation: by which each channel is normalised after that.
    """

    size: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    factor: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path, hint: str) -> FeatureExtractor:
        """The extractor of a folder. Raises Missing if the file is not there, or is not one of this kind."""
        path = folder / "preprocessor_config.json"
        try:
            return cls.from_config(read_json(path, hint))
        except ValueError as error:
            raise Missing(f"the file configures no pictures: {error}", place=str(path), hint=hint) from error

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FeatureExtractor:
        """The extractor of a CLIPImageProcessor's settings, as any version of transformers has written them.

        What is switched off needs no settings, and a step of which nothing is said is switched on, as it is there. A
        number in the place of three stands for every channel.

        Raises:
            ValueError: a needed setting that is not there or makes no sense.
        """

        def on(step: str) -> bool:
            return bool(config.get(step, True))

        size = _size(config, "size") if on("do_resize") else None
        crop = _size(config, "crop_size") if on("do_center_crop") else None
        mean, deviation = (0.0,) * 3, (1.0,) * 3
        if on("do_normalize"):
            mean, deviation = _channels(config, "image_mean"), _channels(config, "image_std")
            if min(deviation) <= 0:
                raise ValueError(f"image_std is {config['image_std']}")
        resample = config.get("resample", Image.Resampling.BICUBIC)
        if resample not in list(Image.Resampling):
            raise ValueError(f"resample is {resample!r}, which is no filter")
        factor = _number(config.get("rescale_factor", 1 / 255), "rescale_factor") if on("do_rescale") else 1.0
        return cls(size, (crop, crop) if isinstance(crop, int) else crop, int(resample), factor, mean, deviation)

    def __call__(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float32[Tensor, "1 3 h w"]:
        height, width = rgb.shape[:2]
        if isinstance(self.size, int):
            # in this order: 512 * 77 / 40 is rounded otherwise than 512 / 40 * 77
            height, width = (
                self.size if height <= width else int(self.size * height / width),
                self.size if width <= height else int(self.size * width / height),
            )
        elif self.size is not None:
            height, width = self.size
        pixels = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling(self.resample)))
        if self.crop is not None:
            pixels = _cropped(pixels, *self.crop)
        mean, deviation = np.asarray(self.mean, np.float32), np.asarray(self.deviation, np.float32)
        normal = (pixels.astype(np.float32) * np.float32(self.factor) - mean) / deviation
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1))[None])


def _cropped(pixels: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The centred rectangle, with zeros where the picture does not reach."""
    short = max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])
    padded = np.pad(pixels, [(-(-missing // 2), missing // 2) for missing in short] + [(0, 0)])
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return padded[top : top + height, left : left + width]


def _size(config: Mapping[str, Any], key: str) -> int | tuple[int, int]:
    """One number, or height and width."""
    value = config.get(key)
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or (value.get("height"), value.get("width"))
    numbers = value if isinstance(value, list | tuple) else (value,)
    if len(numbers) > 2 or not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"{key} is {config.get(key)!r}")
    return (numbers[0], numbers[1]) if len(numbers) == 2 else int(numbers[0])


def _channels(config: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    value = config.get(key)
    red, green, blue = value if isinstance(value, list) and len(value) == 3 else (value,) * 3
    return _number(red, key), _number(green, key), _number(blue, key)


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, where a number is needed")
    return float(value)
