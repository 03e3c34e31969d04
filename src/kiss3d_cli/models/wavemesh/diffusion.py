"""Gaussian diffusion: schedules, what a network predicts, and steps back from noise.

x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, with a_t the product of 1 - beta up to t (Ho et al. 2020). Cosine schedule:
Nichol and Dhariwal 2021; v = sqrt(a_t) e - sqrt(1 - a_t) x_0: Salimans and Ho 2022; DDIM: Song et al. 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput

SCHEDULES = ("cosine", "linear")
PREDICTIONS = ("v", "x0", "epsilon")
SAMPLERS = ("ddim", "ddpm")


@dataclass(frozen=True)
class Diffusion:
    """
    Attributes:
        schedule: of the noise, one of `SCHEDULES`.
        prediction: what the network says, one of `PREDICTIONS`.
        steps: T, of the forward process.
    """

    schedule: str = "cosine"
    prediction: str = "x0"
    steps: int = 1000

    def __post_init__(self) -> None:
        """Raises BadInput for names and numbers that are none."""
        for name, value, known in (
            ("schedule", self.schedule, SCHEDULES),
            ("prediction", self.prediction, PREDICTIONS),
        ):
            if value not in known:
                raise BadInput(f"there is no {name} {value}", hint=f"choose of {', '.join(known)}")
        if not 2 <= self.steps <= 10_000:
            raise BadInput(f"a diffusion of {self.steps} steps", hint="give 2 to 10,000")

    def signal(self) -> Float[Tensor, " T"]:
        """a_t for t = 0 .. T - 1: the share of the signal's variance that is left, in float64."""
        time = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        if self.schedule == "linear":
            betas = torch.linspace(0.1, 20, self.steps, dtype=torch.float64) / self.steps  # 1e-4 to 0.02 of 1,000
        else:
            share = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
            betas = 1 - share[1:] / share[:-1]
        return torch.cumprod(1 - betas.clamp(max=0.999), 0)

    def levels(self, times: Int[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """sqrt(a_t) and sqrt(1 - a_t) of each time."""
        share = self.signal()[times.cpu()].float().to(times.device)
        return share.sqrt(), (1 - share).sqrt()

    def noised(
        self, x0: Float[Tensor, "N K"], noise: Float[Tensor, "N K"], signal: Float[Tensor, "#N 1"], rest: Tensor
    ) -> Float[Tensor, "N K"]:
        """x_t. signal, rest: the levels of each row's time."""
        return signal * x0 + rest * noise

    def target(
        self, x0: Float[Tensor, "N K"], noise: Float[Tensor, "N K"], signal: Float[Tensor, "#N 1"], rest: Tensor
    ) -> Float[Tensor, "N K"]:
        """What the network should say about x_t."""
        if self.prediction == "v":
            return signal * noise - rest * x0
        return x0 if self.prediction == "x0" else noise

    def origin(
        self, said: Float[Tensor, "N K"], xt: Float[Tensor, "N K"], signal: Float[Tensor, "#N 1"], rest: Tensor
    ) -> Float[Tensor, "N K"]:
        """x_0 from what the network says about x_t."""
        if self.prediction == "v":
            return signal * xt - rest * said
        if self.prediction == "x0":
            return said
        return (xt - rest * said) / signal.clamp_min(1e-4)

    def times(self, steps: int) -> list[int]:
        """The times of a sampling of fewer steps, from T - 1 down; equally spaced.

        Raises:
            BadInput: more steps than the diffusion has, or none.
        """
        if not 1 <= steps <= self.steps:
            raise BadInput(f"{steps} sampling steps of a diffusion with {self.steps}", hint="give fewer steps")
        return [round(time) for time in torch.linspace(self.steps - 1, 0, steps + 1)[:-1].tolist()]

    def sample(
        self,
        noise: Float[Tensor, "N K"],
        say: Callable[[Float[Tensor, "N K"], int], Float[Tensor, "N K"]],
        steps: int,
        draw: Callable[[], Float[Tensor, "N K"]],
        *,
        sampler: str = "ddim",
        limit: float | None = None,
    ) -> Float[Tensor, "N K"]:
        """From noise to x_0.

        Args:
            noise: x_T.
            say: the network's answer about x_t at a time.
            steps: network evaluations (twice with guidance).
            draw: fresh noise, for ddpm.
            sampler: "ddim" (no further noise) or "ddpm" (ancestral, on the same times).
            limit: x_0 is cut off at this size in every step; None for none.
        """
        if sampler not in SAMPLERS:
            raise BadInput(f"there is no sampler {sampler}", hint=f"choose of {', '.join(SAMPLERS)}")
        signal = self.signal()
        times = self.times(steps)
        x = noise
        origin = noise
        for now, then in zip(times, [*times[1:], -1], strict=True):
            a, b = float(signal[now]), float(signal[then]) if then >= 0 else 1.0
            level, rest = (x.new_tensor(math.sqrt(share)).reshape(1, 1) for share in (a, 1 - a))
            origin = self.origin(say(x, now), x, level, rest)
            if limit is not None:
                origin = origin.clamp(-limit, limit)
            guess = (x - level * origin) / rest
            variance = (1 - b) / (1 - a) * (1 - a / b) if sampler == "ddpm" and then >= 0 else 0.0
            x = math.sqrt(b) * origin + math.sqrt(max(0.0, 1 - b - variance)) * guess
            if variance > 0:
                x = x + math.sqrt(variance) * draw()
        return origin
