"""Explicit targets (ISOMER, Wu et al. 2024, "Unique3D", section 3.3): one normal for every vertex, from all views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import rasterize

_DEPTH_TOLERANCE = 0.01
"""World units by which a vertex may lie behind the surface that its pixel shows and still be seen."""
_SUPPORT = 0.1
"""Sum of weights below which a vertex keeps its own normal."""


@dataclass(frozen=True)
class ExplicitTarget:
    """
    Attributes:
        normals: (N, 3) world-space unit normals that the vertices are to have.
        support: (N,) sum of the weights of the views that say so; 0 where no view does.
    """

    normals: Float[Tensor, "N 3"]
    support: Float[Tensor, " N"]


def explicit_target(
    mesh: Mesh,
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    view_weights: Sequence[float],
    size: int = 512,
) -> ExplicitTarget:
    """The normals that the views ask of the vertices.

    Each vertex gets the mean of the views' normals at its place, where it is visible, weighted by the view's weight
    times |cos| between its own normal and the way to the camera; it keeps its own normal where the weights' sum is
    0.1 or less.

    Args:
        normals: camera-space unit normals.
        view_weights: one for each view.
        size: of the images that visibility is decided in.
    """
    own = vertex_normals(mesh.vertices, mesh.faces)
    clip = cameras.clip(mesh.vertices)
    surface = rasterize(clip, mesh.faces, (size, size)).depth
    where = clip[..., :2] / clip[..., 3:] * clip.new_tensor([1.0, -1.0])
    share = mask.to(normals)[..., None]
    world = cameras.normals_to_world(normals) * share
    layers = torch.cat([world, share, surface[..., None]], -1) if size == mask.shape[1] else None
    if layers is None:
        depth = _sample(surface[..., None], where)[..., 0]
        sampled = _sample(torch.cat([world, share], -1), where)
    else:
        both = _sample(layers, where)
        sampled, depth = both[..., :4], both[..., 4]
    to_camera = normalize(cameras.centers[:, None] - mesh.vertices, dim=-1)
    cosine = (to_camera * own).sum(-1)
    seen = (clip[..., 3] <= depth + _DEPTH_TOLERANCE) & (sampled[..., 3] > 0.5) & (cosine > 0)
    weight = cosine * seen * cosine.new_tensor(list(view_weights))[:, None]
    mean = (normalize(sampled[..., :3], dim=-1) * weight[..., None]).sum(0)
    support = weight.sum(0)
    return ExplicitTarget(torch.where(support[:, None] > _SUPPORT, normalize(mean, dim=-1), own), support)


def _sample(images: Float[Tensor, "V S S C"], where: Float[Tensor, "V N 2"]) -> Float[Tensor, "V N C"]:
    """Bilinear values at places in [-1, 1]^2, x right and y down."""
    sampled = grid_sample(images.movedim(-1, 1), where[:, :, None], padding_mode="zeros", align_corners=False)
    return sampled[..., 0].transpose(1, 2)
