"""DINOv2, as the classes of transformers save it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Dinov2Config, Dinov2Model

from checkpoints.tensors import Spec, specs_of, write_safetensors

REPOSITORY = "facebook/dinov2-base"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 70},
    "full": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518},
}


def specs(size: str) -> dict[str, Spec]:
    with torch.device("meta"):
        return specs_of(Dinov2Model(Dinov2Config(**SIZES[size], patch_size=14)), torch.float32)


def write(root: Path, size: str, seed: int) -> None:
    folder = root / REPOSITORY
    config = Dinov2Config(**SIZES[size], patch_size=14, architectures=["Dinov2Model"])
    config.save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", specs(size), seed)
