"""PRM, the large reconstruction model: one pickle with the network under a prefix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from checkpoints.tensors import Spec, write_json, write_pickle
from kiss3d_cli.models.lrm.checkpoint import CONFIG_FILE, expected_shapes
from kiss3d_cli.models.lrm.config import CHECKPOINT_ENTRY, CHECKPOINT_PREFIX, PRM, LrmConfig

REPOSITORY = "LTT/PRM"
TINY = LrmConfig(
    image_size=64,
    position_size=32,
    encoder_width=64,
    encoder_layers=2,
    encoder_heads=1,
    encoder_hidden=128,
    width=64,
    layers=2,
    heads=1,
    plane_tokens=4,
    plane_channels=8,
    grid_resolution=16,
)
CONFIG = {"tiny": TINY, "full": PRM}


def specs(size: str) -> dict[str, Spec]:
    return {
        CHECKPOINT_PREFIX + name: Spec(shape, torch.float32) for name, shape in expected_shapes(CONFIG[size]).items()
    }


def write(root: Path, size: str, seed: int) -> None:
    path = root / REPOSITORY / "final_ckpt.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if CONFIG[size] != PRM:
        write_json(path.with_name(CONFIG_FILE), dataclasses.asdict(CONFIG[size]))
    write_pickle(path, specs(size), seed, wrap=lambda state: {CHECKPOINT_ENTRY: state})
