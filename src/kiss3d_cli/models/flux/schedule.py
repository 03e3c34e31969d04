"""The noise levels of a run and the solvers' steps between them (flow matching; Liu et al., "Rectified flow", 2022).

A sample at level s is `(1 - s) * clean + s * noise`; the network's answer is the direction from the clean to the noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

TRAINED_STEPS = 1000
HEUN_SHIFT = 3.0
BASE_TOKENS, MOST_TOKENS = 256, 4096
BASE_SHIFT, MOST_SHIFT = 0.5, 1.15
"""Euler's levels lean the more to noise the more tokens there are: `exp` of a line through these two points."""

Solver = Literal["heun", "euler"]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A run's noise levels.

    Attributes:
        solver: which steps are taken between them.
        levels: falling, the last is 0; there is one step less than levels.
    """

    solver: Solver
    levels: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.levels) - 1

    @property
    def calls(self) -> int:
        """How often the transformer is called."""
        return sum(self.calls_of(step) for step in range(self.steps))

    def calls_of(self, step: int) -> int:
        """Heun looks twice, but never at level 0, where there is no noise to point to."""
        return 2 if self.solver == "heun" and self.levels[step + 1] > 0 else 1


def make_schedule(solver: Solver, steps: int, strength: float, tokens: int) -> Schedule:
    """Noise levels as in the published pipelines: Heun's with a fixed shift, Euler's with one that depends on size.

    Args:
        steps: of the full schedule.
        strength: share of it that is run. Where the start falls between two levels, the first step is a shorter one.
        tokens: of the image.
    """
    first = round(steps * (1 - strength), 9)
    places = [first, *range(math.floor(first) + 1, steps)] if first < steps else []
    last = HEUN_SHIFT / TRAINED_STEPS / (1 + (HEUN_SHIFT - 1) / TRAINED_STEPS) if solver == "heun" else 1 / steps
    linear = np.interp(places, np.arange(steps), np.linspace(1.0, last, steps))
    if solver == "heun":
        levels = HEUN_SHIFT * linear / (1 + (HEUN_SHIFT - 1) * linear)
    else:
        slope = (MOST_SHIFT - BASE_SHIFT) / (MOST_TOKENS - BASE_TOKENS)
        shift = math.exp(BASE_SHIFT + slope * (tokens - BASE_TOKENS))
        levels = shift / (shift + 1 / linear - 1)
    return Schedule(solver, (*(float(level) for level in levels), 0.0))


Latents = Float[Tensor, "1 N C"]


def step(schedule: Schedule, index: int, latents: Latents, direction: Callable[[Latents, float], Tensor]) -> Latents:
    """One step of the solver, in float32.

    Args:
        direction: the network's answer at a sample and its noise level.
    """
    now, following = schedule.levels[index], schedule.levels[index + 1]
    first = direction(latents, now).float()
    ahead = latents + (following - now) * first
    if schedule.calls_of(index) == 1:
        return ahead
    return latents + (following - now) * (first + direction(ahead, following).float()) / 2


def acts(start: float, end: float, index: int, steps: int) -> bool:
    """Whether a control with this range of the schedule acts in a step."""
    return index / steps >= start and (index + 1) / steps <= end
