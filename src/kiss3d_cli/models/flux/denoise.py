"""From noise to latents: the transformer and its controls, called along a schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.models.flux.schedule import Schedule, acts, step

MODES = {"canny": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4, "gray": 5, "lq": 6}
"""The modes of ControlNet-Union that it was trained on, by their published numbers."""

Tokens = Float[Tensor, "1 N C"]


@dataclasses.dataclass(frozen=True)
class Control:
    """One control of the ControlNet.

    Attributes:
        mode: of `MODES`.
        tokens: the control's picture, encoded and packed.
        scale: factor of what it adds.
        start, end: where it acts, as shares of the schedule.
    """

    mode: str
    tokens: Tokens
    scale: float
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What the picture shall show.

    Attributes:
        states: (1, L, D) T5's states and Redux's tokens.
        summary: (1, D) CLIP's.
    """

    states: Tensor
    summary: Tensor


def calls(schedule: Schedule, controls: Sequence[Control], first: int = 0) -> list[list[str]]:
    """The networks that each step from `first` on calls: `controlnet` once per acting control, then `transformer`."""
    planned = []
    for index in range(first, schedule.steps):
        acting = sum(acts(control.start, control.end, index, schedule.steps) for control in controls)
        planned.append((["controlnet"] * acting + ["transformer"]) * schedule.calls_of(index))
    return planned


def working_bytes(
    tokens: int, image_tokens: int, width: int, control_blocks: int, controls: int, dtype: torch.dtype
) -> int:
    """What one step needs beside the weights; `tests/models/flux/test_working_memory.py` counts it on the classes.

    The worst moment is either in the transformer (20 tensors of one width per token: the residual, queries, keys and
    values with their float32 copies for the rotary embedding, four widths of MLP before and after its activation)
    while it holds what the controls add, or at the end of a ControlNet (12), which holds what it adds before and after
    scaling, and the sum of the controls before it. To that come a widened matrix, in and out of the cast, and half a
    GiB for the libraries' workspaces, their kernels and the rounding of the allocator.

    Args:
        control_blocks: of the ControlNet; 0 without one.
        controls: how many act at once.
    """
    one = tokens * width
    added = control_blocks * image_tokens * width
    worst = max(20 * one + added, 12 * one + min(controls + 1, 3) * added)
    return (worst + 2 * 5 * width * width) * dtype.itemsize + 2**29


@torch.inference_mode()
def denoise(
    transformer: nn.Module,
    controlnet: nn.Module | None,
    schedule: Schedule,
    latents: Tokens,
    prompt: Prompt,
    controls: Sequence[Control],
    places: Float[Tensor, "N 3"],
    guidance: float,
    dtype: torch.dtype,
    *,
    first: int = 0,
    after_step: Callable[[int, Tokens], None] = lambda _index, _latents: None,
) -> Tokens:
    """Run the schedule. Nothing here waits for the device: every number the networks need is on it before the loop.

    Args:
        latents: float32, at the noise level of step `first`.
        places: of the image's tokens, as `latents.token_places`.
        guidance: Distilled guidance scale of Flux.
        dtype: of the networks' activations.
        first: the step to begin with.
        after_step: told every finished step and the latents after it, which it must not change.
    """
    device = latents.device
    states, summary = prompt.states.to(device, dtype), prompt.summary.to(device, dtype)
    shared: dict[str, Any] = {
        "pooled_projections": summary,
        "encoder_hidden_states": states,
        "txt_ids": torch.zeros(states.shape[1], 3, device=device),
        "img_ids": places,
        "return_dict": False,
    }
    strength = torch.full((1,), guidance, device=device, dtype=torch.float32)
    levels = {level: torch.full((1,), level, device=device, dtype=torch.float32) for level in schedule.levels}
    modes = {c.mode: torch.full((1, 1), MODES[c.mode], device=device, dtype=torch.long) for c in controls}
    pictures = {id(control): control.tokens.to(device, dtype) for control in controls}

    def direction(sample: Tensor, level: float, acting: Sequence[Control]) -> Tensor:
        now = {**shared, "hidden_states": sample.to(dtype), "timestep": levels[level]}
        added: tuple[list[Tensor], ...] = ([], [])  # to the double blocks and to the single ones
        for control in acting:
            assert controlnet is not None
            answer = controlnet(
                controlnet_cond=pictures[id(control)],
                controlnet_mode=modes[control.mode],
                conditioning_scale=control.scale,
                guidance=strength if _has_guidance(controlnet) else None,
                **now,
            )
            for total, more in zip(added, answer, strict=True):
                total[:] = [a.add_(b) for a, b in zip(total, more, strict=True)] if total else more or ()
            del answer, more  # before the next control needs as much again
        (result,) = transformer(
            controlnet_block_samples=added[0] or None,
            controlnet_single_block_samples=added[1] or None,
            guidance=strength if _has_guidance(transformer) else None,
            **now,
        )
        return cast(Tensor, result)

    for index in range(first, schedule.steps):
        acting = [c for c in controls if acts(c.start, c.end, index, schedule.steps)]
        latents = step(schedule, index, latents, lambda sample, level, acting=acting: direction(sample, level, acting))  # type: ignore[misc]
        after_step(index, latents)
    return latents


def _has_guidance(network: nn.Module) -> bool:
    return bool(network.config.guidance_embeds)  # type: ignore[union-attr]
