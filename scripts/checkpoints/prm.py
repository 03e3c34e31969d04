"""PRM, the large reconstruction model: one pickle with the network under a prefix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from checkpoints.tensors import Spec, write_json, write_pickle
from kiss3d_cli.models.lrm.checkpoint import CONFIG_FILE, expected_shapes
from kiss3d_cli.models.lrm.config import CHECKPOINT_ENTRY, CHECKPOINT_PREFIX, PRM, LrmConfig
from kiss3d_cli.models.lrm.field import HEAD_WIDTH

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


RADIUS = 0.6
"""Of the ball, in LRM units."""
LARGE = 100
"""Of these two against the first: nearly all that the last norm divides by."""


def ball(config: LrmConfig) -> dict[str, Tensor]:
    """The tensors that make a field's surface a ball, whatever the views show: at full size noise has a million faces.

    A channel of the position embeddings has 2 - u^2 - v^2 at each place of a plane. Two others, large, opposite and
    the same everywhere, keep the last norm from changing it. The head adds up what it finds at a point's three places.
    """
    side, width, channels = config.plane_tokens, config.width, config.plane_channels
    places = (torch.arange(side) + 0.5) * 2 / side - 1
    drop = 2 - places[:, None] ** 2 - places**2
    size = 1e4  # against which what the layers add is small
    embedding = torch.zeros(3, side, side, width)
    embedding[..., 0] = size * drop
    embedding[..., 1], embedding[..., 2] = LARGE * size, -LARGE * size
    found = {"transformer.pos_embed": embedding.reshape(1, -1, width)}
    deconv = torch.zeros(width, channels, 2, 2)
    deconv[0, 0] = LARGE * (2 / width) ** 0.5
    found |= {"transformer.deconv.weight": deconv, "transformer.deconv.bias": torch.zeros(channels)}
    found |= {"transformer.norm.weight": torch.ones(width), "transformer.norm.bias": torch.zeros(width)}
    for layer, columns in ((0, 3 * channels), (2, HEAD_WIDTH), (4, HEAD_WIDTH)):
        weight = torch.zeros(HEAD_WIDTH, columns)
        weight[0, :: channels if layer == 0 else HEAD_WIDTH] = 1
        found[f"{HEAD}.{layer}.weight"], found[f"{HEAD}.{layer}.bias"] = weight, torch.zeros(HEAD_WIDTH)
    last = torch.zeros(1, HEAD_WIDTH)
    last[0, 0] = -1
    return {**found, f"{HEAD}.6.weight": last, f"{HEAD}.6.bias": torch.tensor([6 - 2 * RADIUS**2])}


HEAD = "synthesizer.decoder.net_sdf"


def write(root: Path, size: str, seed: int) -> None:
    path = root / REPOSITORY / "final_ckpt.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if CONFIG[size] != PRM:
        write_json(path.with_name(CONFIG_FILE), dataclasses.asdict(CONFIG[size]))
    given = {CHECKPOINT_PREFIX + name: value for name, value in ball(PRM).items()} if CONFIG[size] == PRM else None
    write_pickle(path, specs(size), seed, lambda state: {CHECKPOINT_ENTRY: state}, given)
