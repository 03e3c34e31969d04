"""Colours of procedural objects, sRGB-encoded."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from kiss3d_cli.geometry.mesh import Mesh


def random_color(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """sRGB; greys, browns and strong colours alike."""
    if rng.random() < 0.3:
        return np.full(3, rng.uniform(0.1, 0.95)) * rng.uniform(0.9, 1, 3)
    hue, strength, value = rng.random(), rng.beta(1.5, 2), rng.beta(3, 1.5)
    ramp = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - strength + strength * ramp)


def near_color(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return color if rng.random() < 0.5 else np.clip(color * rng.uniform(0.7, 1.3) + rng.normal(0, 0.08, 3), 0, 1)


def patched(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Vertex colours from bands and patches of up to four colours."""
    palette = torch.tensor(np.stack([random_color(rng) for _ in range(rng.integers(1, 5))])).float()
    direction = torch.tensor(rng.normal(0, 1, (2, 3)) * [[0.3, 1.5, 0.3], [1, 1, 1]]).float()
    wave = torch.sin(mesh.vertices @ direction[0] * 3 + rng.uniform(0, 6)) + 0.4 * torch.sin(
        mesh.vertices @ direction[1] * 6
    )
    band = ((wave + 1.4) / 2.8 * len(palette)).long().clamp(0, len(palette) - 1)
    return mesh.with_colors(palette[band])
