"""The two feature extractors of the model folder: a picture as the VAE and as CLIP want it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.pretrained import read_json


@dataclass(frozen=True)
class FeatureExtractor:
    """Resize, crop and normalise, as a `preprocessor_config.json` says.

    The library's own extractor resamples otherwise where torchvision is installed; this one does not depend on it.

    Attributes:
        side: length of the shorter edge after resizing, in pixels.
        crop: side of the centred square that is kept; None keeps everything.
        resample: PIL's number of the resampling filter.
        mean, deviation: by which each channel in [0, 1] is normalised.
    """

    side: int
    crop: int | None
    resample: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path, hint: str) -> FeatureExtractor:
        """Raises Missing if the file is not there, or is not one of this kind."""
        path = folder / "preprocessor_config.json"
        values = read_json(path, hint)
        try:
            size = values["size"]
            crop = values["crop_size"]
            mean, deviation = tuple(map(float, values["image_mean"])), tuple(map(float, values["image_std"]))
            assert len(mean) == 3
            assert len(deviation) == 3
            return cls(
                side=int(size["shortest_edge"] if isinstance(size, dict) else size),
                crop=int(crop["height"] if isinstance(crop, dict) else crop) if values["do_center_crop"] else None,
                resample=int(values["resample"]),
                mean=mean,
                deviation=deviation,
            )
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise Missing(f"the file is damaged: {type(error).__name__} {error}", place=str(path), hint=hint) from error

    def __call__(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float32[Tensor, "1 3 h w"]:
        height, width = rgb.shape[:2]
        scale = self.side / min(height, width)
        size = (
            self.side if width <= height else int(width * scale),
            self.side if height <= width else int(height * scale),
        )
        pixels = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling(self.resample)))
        if self.crop is not None:
            top, left = (pixels.shape[0] - self.crop) // 2, (pixels.shape[1] - self.crop) // 2
            pixels = pixels[top : top + self.crop, left : left + self.crop]
        mean, deviation = np.asarray(self.mean, np.float32), np.asarray(self.deviation, np.float32)
        normal = (pixels.astype(np.float32) / 255 - mean) / deviation
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1))[None])
