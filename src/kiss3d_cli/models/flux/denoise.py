"""From noise to latents: the transformer and its controls, called along a schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

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


def working_bytes(tokens: int, image_tokens: int, width: int, control_blocks: int, dtype: torch.dtype) -> int:
    """What one call needs beside the weights.

    Counted at the worst moment, the end of a single block: about 30 tensors of one width per token (the residual, its
    normalised copy, queries, keys and values and their float32 copies for the rotary embedding, attention, four widths
    of MLP before and after its activation, both joined, the sum), the widened matrix twice (in and out of the cast),
    what the controls add, and a quarter of a GiB for the libraries' workspaces.
    """
    activations = 30 * tokens * width
    widened = 2 * 5 * width * width
    added = control_blocks * image_tokens * width
    return (activations + widened + added) * dtype.itemsize + 2**28


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
        guidance: Flux's distilled guidance.
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
        sample = sample.to(dtype)
        added: dict[str, Any] = {}
        for control in acting:
            assert controlnet is not None
            blocks, singles = controlnet(
                hidden_states=sample,
                controlnet_cond=pictures[id(control)],
                controlnet_mode=modes[control.mode],
                conditioning_scale=control.scale,
                timestep=levels[level],
                guidance=strength if _has_guidance(controlnet) else None,
                **shared,
            )
            for key, more in (("controlnet_block_samples", blocks), ("controlnet_single_block_samples", singles)):
                before = added.get(key)
                added[key] = more if before is None else [a + b for a, b in zip(before, more, strict=True)]
        (answer,) = transformer(
            hidden_states=sample,
            timestep=levels[level],
            guidance=strength if _has_guidance(transformer) else None,
            **shared,
            **added,
        )
        return answer

    for index in range(first, schedule.steps):
        acting = [c for c in controls if acts(c.start, c.end, index, schedule.steps)]
        latents = step(schedule, index, latents, lambda sample, level, acting=acting: direction(sample, level, acting))  # type: ignore[misc]
        after_step(index, latents)
    return latents


def _has_guidance(network: nn.Module) -> bool:
    return bool(network.config.guidance_embeds)  # type: ignore[union-attr]
