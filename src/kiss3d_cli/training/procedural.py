"""Objects without end, for what no set has: smooth animals and figures, turned, folded, legged and chiselled things.

Each kind takes a generator of random numbers and gives a coloured mesh, upright, facing +z.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.training.assembled import assembled, bent, lathed, legged, rock
from kiss3d_cli.training.blended import animal, blob, chiselled, figure
from kiss3d_cli.training.objects import normalised

KINDS: dict[Callable[[np.random.Generator], Mesh], float] = {
    animal: 0.24,
    figure: 0.24,
    blob: 0.1,
    lathed: 0.14,
    chiselled: 0.06,
    legged: 0.08,
    assembled: 0.08,
    rock: 0.03,
    bent: 0.03,
}
"""Kinds and their shares: most are round and soft, as what people photograph and game art has not."""


def draw_object(rng: np.random.Generator) -> Mesh:
    """A random object; normalised as those that are read."""
    kinds = list(KINDS)
    weights = np.array([KINDS[kind] for kind in kinds])
    while True:
        kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
        try:
            mesh = kind(rng)
            return normalised(_tapered(mesh, rng), place=kind.__name__)
        except BadInput:  # a random solid may leave its grid empty
            continue


def _tapered(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Stretched along the axes and, now and then, twisted or tapered upwards."""
    vertices = mesh.vertices.clone()
    vertices = vertices * torch.tensor(np.exp(rng.normal(0, 0.12, 3))).float()
    high = vertices[:, 1] / vertices[:, 1].abs().max().clamp_min(1e-6)
    if rng.random() < 0.25:
        vertices[:, [0, 2]] *= (1 + rng.uniform(-0.35, 0.35) * high)[:, None]
    if rng.random() < 0.1:
        angle = rng.normal(0, 0.4) * high
        x, z = vertices[:, 0].clone(), vertices[:, 2].clone()
        vertices[:, 0], vertices[:, 2] = x * angle.cos() - z * angle.sin(), x * angle.sin() + z * angle.cos()
    return mesh.with_vertices(vertices)
