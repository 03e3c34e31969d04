"""The normal map of a run's mesh: the detail of the bundle's normals that its vertices can't hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.settings import COLOR_WEIGHTS
from kiss3d_cli.geometry.texture.project import Photographs
from kiss3d_cli.geometry.texture.relief import detail, strength
from kiss3d_cli.image.bundle import load_bundle

LEAST = 0.5
"""Degrees by which the detail turns the normals on average, below which it is left out. Where the pictures show the
very mesh, the rounding of their bytes and its decimation turn them by 0.1 to 0.2."""


@dataclass(frozen=True)
class RunNormals:
    """
    Attributes:
        bundle: views of the run's mesh over their normals.
        radius: of its cameras, where the bundle states none.
    """

    bundle: Path
    radius: float


@dataclass(frozen=True)
class Seen:
    """A bundle's normals.

    Attributes:
        cameras: of the V views.
        normals: (V, S, S, 3) unit normals in each camera's space.
        masks: (V, S, S) where the object is.
        weights: (V,) how much each view counts.
    """

    cameras: Cameras
    normals: Float[Tensor, "V S S 3"]
    masks: Bool[Tensor, "V S S"]
    weights: Float[Tensor, " V"]


def measured(mesh: Mesh, source: RunNormals) -> tuple[Seen, Photographs, float]:
    """What the bundle shows, the detail that the mesh lacks, and by how many degrees it turns the normals.

    Raises:
        BadInput: it is no bundle.
    """
    bundle = load_bundle(source.bundle)
    views = bundle.views
    if views is None:
        cameras, weights = bundle_cameras(source.radius), torch.tensor(COLOR_WEIGHTS)
    else:
        cameras = orbit_cameras(views.azimuths, views.elevations, views.radius, views.fov)
        weights = torch.ones(len(cameras))
    found = detail(mesh, cameras, bundle.normals, bundle.mask, weights)
    return Seen(cameras, bundle.normals, bundle.mask, weights), found, strength(found)


def relief(mesh: Mesh, source: RunNormals) -> tuple[Photographs | None, str]:
    """Pictures of the detail, and why there are none.

    Args:
        mesh: in the run's world, on the CPU.
    """
    try:
        _, found, turns = measured(mesh, source)
    except (BadInput, OSError) as error:
        return None, f"the run's pictures of normals can't be read ({getattr(error, 'cause', error)})"
    if turns < LEAST:
        return None, "the run's pictures of normals show nothing finer than its mesh"
    return found, ""
