"""Denoising: from noise to the latents of the grid of views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.models.zero123plus.attention import ReferenceUnet

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Condition:
    """What the views are drawn from. With guidance B is 2: without the picture, and with it; else 1.

    Attributes:
        embeddings: (B, T, D), for cross-attention.
        latents: (B, 4, h, w), for reference attention; the first row, with guidance, is that of a zero picture.
    """

    embeddings: Float[Tensor, "B T D"]
    latents: Float[Tensor, "B 4 h w"]


@dataclass(frozen=True)
class Noise:
    """Where random numbers come from. Both generators are on the CPU and may be one and the same.

    Attributes:
        views: for the first latents and the scheduler's steps.
        condition: for the condition's latents and their noise.
    """

    views: torch.Generator
    condition: torch.Generator

    @classmethod
    def seeded(cls, seed: int) -> Noise:
        generator = torch.Generator().manual_seed(seed)
        return cls(generator, generator)

    def states(self) -> tuple[Tensor, Tensor]:
        """Where both generators stand, for `restore`."""
        return self.views.get_state(), self.condition.get_state()

    def restore(self, states: tuple[Tensor, Tensor]) -> None:
        """Let the same numbers come again."""
        self.views.set_state(states[0])
        self.condition.set_state(states[1])


def draw(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Normal noise in float32, the same on every device: drawn on the CPU."""
    return torch.randn(shape, generator=generator).to(device)


def denoise(
    unet: ReferenceUnet,
    scheduler: Any,
    condition: Condition,
    *,
    size: tuple[int, int],
    steps: int,
    guidance: float,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Float[Tensor, "1 4 H W"]:
    """Latents of the grid, in float32.

    Classifier-free guidance runs as one batch. Only the network runs in its own precision: latents, noise and the
    scheduler stay in float32.

    Args:
        scheduler: an EulerAncestralDiscreteScheduler.
        size: of the latents, rows and columns.
        guidance: scale; without guidance the condition has one row.
        on_step: called before each step with its number and their count, and once after the last.
    """
    device, dtype = condition.latents.device, unet.unet.dtype
    embeddings = condition.embeddings.to(dtype)
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    rows = len(condition.latents)
    on_device = scheduler.timesteps.to(device)
    latents = draw((1, 4, *size), noise.views, device) * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        if on_step is not None:
            on_step(index, steps)
        sigma = scheduler.sigmas[index]
        drawn = draw(tuple(condition.latents.shape), noise.condition, device)
        # the condition at the noise level of the step, scaled as the network's input is
        reference = (condition.latents + sigma * drawn) / (sigma**2 + 1) ** 0.5
        sample = scheduler.scale_model_input(latents, timestep).expand(rows, -1, -1, -1)
        velocity = unet(sample.to(dtype), reference.to(dtype), on_device[index], embeddings).float()
        if rows == 2:
            without, within = velocity.chunk(2)
            velocity = without + guidance * (within - without)
        latents = scheduler.step(velocity, timestep, latents, generator=noise.views).prev_sample
    if on_step is not None:
        on_step(steps, steps)
    return latents
