"""Matrix operations of the view synthesis model, counted from its layers; a multiplication and an addition are two."""

from __future__ import annotations

from kiss3d_cli.models.lvsm.config import LvsmConfig

BACKWARD = 2
"""What gradients cost, relative to the way forward."""


def layer_flops(width: int, tokens: int) -> float:
    """One layer over a row of tokens: its four linear maps (12 width^2 weights), and attention of each to each."""
    return 24 * width**2 * tokens + 4 * width * tokens**2


def forward_flops(config: LvsmConfig, given: int, asked: int) -> float:
    """Of one object, of which `given` pictures are read and `asked` are drawn."""
    patches = (config.size // config.patch) ** 2
    seen = given * patches
    scene = config.latents if config.encoder else seen
    linear = 2 * config.width * config.patch**2 * patches * (10 * given + (11 + 4) * asked)
    encoder = config.encoder * layer_flops(config.width, config.latents + seen)
    return linear + encoder + asked * config.decoder * layer_flops(config.width, scene + patches)


def step_flops(config: LvsmConfig, batch: int, given: int, asked: int) -> float:
    """Of a training step without checkpointing."""
    return (1 + BACKWARD) * batch * forward_flops(config, given, asked)
