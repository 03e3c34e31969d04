"""Values for a few tensors of tiny Flux weights with which its answer is a bundle, though all else is random.

A random network draws noise, and no mesh can be made of that. Here the VAE passes the mean colour of every block of
8 x 8 pixels, and the transformer's answer is a multiple of what the sample differs from the picture of the tile
control, so that every step comes closer to that picture. All blocks still compute, but their gates are shut: what they
add would be pulled as well.
"""

from __future__ import annotations

import re

import torch

State = dict[str, torch.Tensor]

PULL = 16.0
"""The answer is this many times the difference: over a third of the noise levels, what differs shrinks by e^-5."""
STEADY = 16.0
"""Constant channels beside the signal, so large that normalising does not notice the signal."""
CONTROL_SCALE = 0.6


def wire_transformer(state: State, prefix: str) -> None:
    """Let the answer be PULL times what the ControlNet adds; the image's own tokens are not looked at."""
    inputs = state[f"{prefix}img_in.weight"].shape[1]
    for name in [n for n in state if n.startswith(prefix) and re.search(r"(_mod|modulation)\.lin\.", n)]:
        _set(state, name, 0)
    _set(state, f"{prefix}img_in.weight", 0)
    width = 2 * inputs
    steady = STEADY * (1 - 2 * (torch.arange(width) % 2))
    state[f"{prefix}img_in.bias"] = steady.to(state[f"{prefix}img_in.bias"].dtype)
    for kind in ("weight", "bias"):
        _set(state, f"{prefix}final_layer.adaLN_modulation.1.{kind}", 0)
    _set(state, f"{prefix}final_layer.linear.bias", 0)
    answer = torch.cat([torch.eye(inputs), -torch.eye(inputs)], 1) * (PULL * STEADY / 2)
    state[f"{prefix}final_layer.linear.weight"] = answer.to(state[f"{prefix}final_layer.linear.weight"].dtype)


def wire_controlnet(state: State, additions: int = 4) -> None:
    """Let it add the difference of sample and picture, once with each sign.

    Args:
        additions: how many blocks of the transformer it is added to.
    """
    inputs = state["x_embedder.weight"].shape[1]
    both = torch.cat([torch.eye(inputs), -torch.eye(inputs)], 0)
    for name, sign in (("x_embedder", 1), ("controlnet_x_embedder", -1)):
        state[f"{name}.weight"] = (sign * both).to(state[f"{name}.weight"].dtype)
        _set(state, f"{name}.bias", 0)
    for name in [n for n in state if n.startswith(("controlnet_blocks.", "controlnet_single_blocks."))]:
        share = 1 / (additions * CONTROL_SCALE)
        value = torch.eye(2 * inputs) * share if name.endswith("weight") else torch.zeros(2 * inputs)
        state[name] = value.to(state[name].dtype)
    for name in [n for n in state if re.search(r"norm\w*\.linear\.", n)]:
        _set(state, name, 0)


COLOURS = 3
LEVEL = 64.0
"""The constant third channel of each group of three."""
LIFT = 8.0
"""SiLU is a straight line up here."""


def wire_vae(state: State, prefix: str) -> None:
    """Pass every colour as a pair of channels of opposite sign beside a constant, which no normalisation disturbs."""
    for name in [n for n in state if n.startswith(prefix)]:
        if re.search(r"conv2|proj_out|nin_shortcut|conv_in|conv_out|sample\.conv", name):
            _set(state, name, 0)
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


def _set(state: State, name: str, value: float) -> None:
    state[name] = torch.full(state[name].shape, value).to(state[name].dtype)


def wire_lora(state: State) -> None:
    """Leave the gates shut."""
    for name in [n for n in state if re.search(r"_(mod|modulation)_lin\.lora_up", n)]:
        _set(state, name, 0)
