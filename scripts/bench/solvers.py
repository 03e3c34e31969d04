"""What fewer steps cost, on a flow whose exact direction is known: clean samples are points drawn from a mixture.

python scripts/bench/solvers.py
For a mixture of Gaussians the best answer of any network at a noise level is a closed formula, so that all that is left
is the solver's own error: the distance of its end to that of 2,000 Heun steps from the same noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kiss3d_cli.models.flux.schedule import Solver, make_schedule, step

POINTS, WIDTH, SAMPLES = 24, 64, 256
SPREAD = 0.15
"""Standard deviation of every Gaussian; their centres have a norm of about 8."""
TOKENS = 3200
SETTINGS: tuple[tuple[str, Solver, int], ...] = (
    ("quality", "heun", 20),
    ("12gb", "heun", 14),
    ("", "heun", 8),
    ("", "euler", 27),
    ("", "euler", 20),
    ("", "euler", 12),
    ("", "euler", 8),
    ("fast", "euler", 6),
    ("", "euler", 4),
)


def direction(centres: Tensor, sample: Tensor, level: float) -> Tensor:
    """Expected noise minus expected clean sample, given the sample (Liu et al., "Rectified flow", 2022, equation 2)."""
    kept = 1 - level
    variance = kept**2 * SPREAD**2 + level**2
    distance = (sample[:, None] - kept * centres[None]).square().sum(-1)
    share = torch.softmax(-distance / (2 * variance), -1)
    middle = share @ centres
    clean = middle + kept * SPREAD**2 / variance * (sample - kept * middle)
    noise = (sample - kept * clean) / level
    return noise - clean


def end(centres: Tensor, noise: Tensor, solver: Solver, steps: int, strength: float) -> tuple[Tensor, int]:
    schedule = make_schedule(solver, steps, strength, TOKENS)
    sample = noise
    for index in range(schedule.steps):
        sample = step(schedule, index, sample[None], lambda x, s: direction(centres, x[0], s)[None])[0]
    return sample, schedule.calls


def main() -> None:
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(POINTS, WIDTH, generator=random, dtype=torch.float64)
    noise = torch.randn(SAMPLES, WIDTH, generator=random, dtype=torch.float64)
    exact, _calls = end(centres, noise, "heun", 2000, 1.0)
    print("| preset | solver | steps | calls | error | samples that end at another point |")
    print("|---|---|---|---|---|---|")
    nearest = torch.cdist(exact, centres).argmin(1)
    for preset, solver, steps in SETTINGS:
        got, calls = end(centres, noise, solver, steps, 1.0)
        moved = float((torch.cdist(got, centres).argmin(1) != nearest).double().mean())
        kept = torch.cdist(got, centres).argmin(1) == nearest
        error = float(((got - exact)[kept].norm(dim=1) / exact[kept].norm(dim=1)).mean())
        print(f"| {preset} | {solver} | {steps} | {calls} | {error:.3f} | {moved:.1%} |")


if __name__ == "__main__":
    main()
