"""Values for a few tensors of tiny Flux weights with which its answer is a bundle, though all else is random.

A random network draws noise, and no mesh can be made of that. Here the VAE passes the mean colour of every block of
8 x 8 pixels, and the transformer's answer is a multiple of what the sample differs from a picture, so that every step
comes closer to it: the picture of the tile control or, where the redux route's LoRA opens the gates of the first
block, one that this block paints after Redux's tokens (`checkpoints.spheres`). All other blocks compute, but their
gates are shut: what they add would be pulled as well.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

State = dict[str, Tensor]

PULL = 16.0
"""The answer is this many times the difference: over a third of the noise levels, what differs shrinks by e^-5."""
STEADY = 16.0
"""Constant channels beside the signal, so large that normalising does not notice the signal."""
CONTROL_SCALE = 0.6
USED = 12
"""Of a token's 64 numbers: three latent channels of 2 x 2 latents. The VAE has the colours in these."""


def wire_transformer(state: State, prefix: str) -> None:
    """Let the answer be PULL times what the ControlNet, or the first block, adds to the image's tokens.

    Channels come in pairs of opposite sign, half the width apart. The first USED hold the difference to be answered,
    the next USED the sample.
    """
    width, inputs = state[f"{prefix}img_in.weight"].shape
    for name in [n for n in state if n.startswith(prefix) and re.search(r"(_mod|modulation)\.lin\.", n)]:
        put(state, name, 0)
    sample = torch.zeros(width, inputs)
    sample[pair(USED, width)] = both_signs(torch.eye(USED, inputs))
    fill(state, f"{prefix}img_in.weight", sample)
    fill(state, f"{prefix}img_in.bias", steady(width))
    for kind in ("weight", "bias"):
        put(state, f"{prefix}final_layer.adaLN_modulation.1.{kind}", 0)
    put(state, f"{prefix}final_layer.linear.bias", 0)
    answer = torch.zeros(inputs, width)
    answer[:USED, pair(0, width)] = both_signs(torch.eye(USED)).T * (PULL * STEADY / 2)
    fill(state, f"{prefix}final_layer.linear.weight", answer)


def wire_controlnet(state: State, additions: int = 4) -> None:
    """Let it add the difference of sample and picture, once with each sign.

    Args:
        additions: how many blocks of the transformer it is added to.
    """
    width, inputs = state["x_embedder.weight"].shape
    both = torch.zeros(width, inputs)
    both[pair(0, width)] = both_signs(torch.eye(USED, inputs))
    for name, sign in (("x_embedder", 1), ("controlnet_x_embedder", -1)):
        fill(state, f"{name}.weight", sign * both)
        put(state, f"{name}.bias", 0)
    for name in [n for n in state if n.startswith(("controlnet_blocks.", "controlnet_single_blocks."))]:
        share = 1 / (additions * CONTROL_SCALE)
        fill(state, name, torch.eye(width) * share if name.endswith("weight") else torch.zeros(width))
    for name in [n for n in state if re.search(r"norm\w*\.linear\.", n)]:
        put(state, name, 0)


COLOURS = 3
LEVEL = 64.0
"""The constant third channel of each group of three."""
LIFT = 8.0
"""SiLU is a straight line up here."""


def wire_vae(state: State, prefix: str) -> None:
    """Pass every colour as a pair of channels of opposite sign beside a constant, which no normalisation disturbs."""
    for name in [n for n in state if n.startswith(prefix)]:
        if re.search(r"conv2|proj_out|nin_shortcut|conv_in|conv_out|sample\.conv", name):
            put(state, name, 0)
    used = range(3 * COLOURS)
    for name in [n for n in state if n.startswith(prefix) and n.endswith(".weight")]:
        weight = state[name]
        if name.endswith("nin_shortcut.weight") or re.search(r"up\.\d\.upsample\.conv\.weight", name):
            middle = weight.shape[-1] // 2
            for channel in used:
                weight[channel, channel, middle, middle] = 1
        elif name.endswith("downsample.conv.weight"):
            for channel in used:
                weight[channel, channel, :2, :2] = 0.25
        elif name.endswith("conv_in.weight"):
            for colour in range(COLOURS):
                weight[3 * colour, colour, 1, 1] = 1
                weight[3 * colour + 1, colour, 1, 1] = -1
                state[name.removesuffix("weight") + "bias"][3 * colour + 2] = LEVEL
        elif name.endswith("conv_out.weight"):
            for colour in range(COLOURS):
                weight[colour, 3 * colour, 1, 1] = 0.5
                weight[colour, 3 * colour + 1, 1, 1] = -0.5
        elif name.endswith("norm_out.weight"):
            # over a group (s, -s, LEVEL) the mean is LEVEL / 3 and the deviation, near enough, LEVEL sqrt(2) / 3
            weight[:] = LEVEL * 2**0.5 / 3
            state[name.removesuffix("weight") + "bias"][:] = LIFT + LEVEL / 3


def pair(first: int, width: int, count: int = USED) -> Tensor:
    """The channels of `count` pairs from `first` on: those with a plus, then those with a minus."""
    plus = torch.arange(first, first + count)
    return torch.cat([plus, plus + width // 2])


def both_signs(rows: Tensor) -> Tensor:
    """(2 N, ...) Rows for the channels of `pair`."""
    return torch.cat([rows, -rows])


def steady(width: int) -> Tensor:
    """The constant beside the signal: of no mean, and the same for both channels of a pair."""
    return STEADY * (1 - 2.0 * (torch.arange(width) % 2))


def put(state: State, name: str, value: float) -> None:
    """Set every number of a tensor."""
    fill(state, name, torch.full(state[name].shape, value))


def fill(state: State, name: str, value: Tensor) -> None:
    """Set a tensor, in its own dtype."""
    assert value.shape == state[name].shape, name
    state[name] = value.to(state[name].dtype)


def wire_lora(state: State) -> None:
    """Leave the gates shut."""
    for name in [n for n in state if re.search(r"_(mod|modulation)_lin\.lora_up", n)]:
        put(state, name, 0)
