"""Colours for the part of a surface that nobody has seen, from those that were seen around it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.geometry.materials import Materials, mixed
from kiss3d_cli.geometry.texture.diffuse import diffuse

SURE = 0.5
"""Trust from which a colour tells what the object is made of."""


def complete(
    vertices: Float[Tensor, "N 3"],
    faces: Int[Tensor, "F 3"],
    colors: Float[Tensor, "N 3"],
    trust: Float[Tensor, " N"],
    normals: Float[Tensor, "N 3"],
) -> Float[Tensor, "N 3"]:
    """Keeps trusted colours and continues the materials that they are of over the rest.

    The shares of the materials are spread, not the colours: as in a random walk (Grady 2006), each place takes the
    material that most walks from it come to, in the shading that it has there. So two of them meet at an edge, and no
    colour appears that was not seen. Walks rarely cross a crease.

    Args:
        colors: sRGB-encoded; those of trust 0 are not looked at.
        trust: (N,) in [0, 1]; a colour of trust 1 is kept as it is.
        normals: unit vectors.
    """
    known, given = trust.detach().cpu().numpy(), colors.detach().cpu().double().numpy()
    if not (known > 0).any() or (known >= 1).all():
        return colors
    sure = known >= min(SURE, known.max())
    materials = Materials.of(given[sure])
    count = len(materials.centers)
    own = np.eye(count)[materials.label(given)]
    both = np.concatenate([own, (own[:, :, None] * given[:, None]).reshape(len(own), -1)], 1)
    spread = diffuse(vertices, faces, torch.from_numpy(both), trust, normals).numpy()
    shares = spread[:, :count].clip(0, 1)
    shading = spread[:, count:].reshape(-1, count, 3) / spread[:, :count, None].clip(1e-9)
    found = np.where((known >= 1)[:, None], given, mixed(shares, shading, materials))
    return torch.from_numpy(found).to(colors)
