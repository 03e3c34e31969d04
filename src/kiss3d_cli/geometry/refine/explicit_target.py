"""Explicit targets (ISOMER, Wu et al. 2024, "Unique3D", section 3.3): one normal for every vertex, from all views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import BUILT_IN, Backend, rasterize

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


@dataclass(frozen=True)
class TargetViews:
    """The pictures that targets are gathered from.

    Attributes:
        normals: (V, S, S, 3) world-space unit normals, 0 outside the mask.
        mask: (V, S, S)
        cameras: one for each view.
        weights: (V,) of the views.
        backend: who finds the visible faces.
    """

    normals: Float[Tensor, "V S S 3"]
    mask: Bool[Tensor, "V S S"]
    cameras: Cameras
    weights: Float[Tensor, " V"]
    backend: Backend = BUILT_IN

    @staticmethod
    def of(
        normals: Float[Tensor, "V S S 3"],
        mask: Bool[Tensor, "V S S"],
        cameras: Cameras,
        weights: Float[Tensor, " V"],
        backend: Backend = BUILT_IN,
    ) -> TargetViews:
        """
        Args:
            normals: camera-space unit normals.
        """
        world = cameras.normals_to_world(normals) * mask[..., None]
        return TargetViews(world, mask, cameras, weights, backend)

    def gather(self, mesh: Mesh) -> ExplicitTarget:
        """The normals that the views ask of the vertices.

        Each vertex gets the mean of the views' normals at its place, where it is visible, weighted by the view's
        weight times |cos| between its own normal and the way to the camera; it keeps its own normal where the
        weights' sum is 0.1 or less.
        """
        own = vertex_normals(mesh.vertices, mesh.faces)
        clip = self.cameras.clip(mesh.vertices)
        where = clip[..., :2] / clip[..., 3:] * clip.new_tensor([1.0, -1.0])
        sampled = _sample(torch.cat([self.normals, self.mask.to(own)[..., None]], -1), where)
        size = (self.mask.shape[1], self.mask.shape[2])
        surface = rasterize(clip, mesh.faces, size, self.backend, closed=True).depth
        depth = _sample(surface[..., None], where)[..., 0]
        to_camera = normalize(self.cameras.centers[:, None] - mesh.vertices, dim=-1)
        cosine = (to_camera * own).sum(-1)
        seen = (clip[..., 3] <= depth + _DEPTH_TOLERANCE) & (sampled[..., 3] > 0.5) & (cosine > 0)
        weight = cosine * seen * self.weights[:, None]
        mean = (normalize(sampled[..., :3], dim=-1) * weight[..., None]).sum(0)
        support = weight.sum(0)
        return ExplicitTarget(torch.where(support[:, None] > _SUPPORT, normalize(mean, dim=-1), own), support)


def _sample(images: Float[Tensor, "V S S C"], where: Float[Tensor, "V N 2"]) -> Float[Tensor, "V N C"]:
    """Bilinear values at places in [-1, 1]^2, x right and y down."""
    sampled = grid_sample(images.movedim(-1, 1), where[:, :, None], padding_mode="zeros", align_corners=False)
    return sampled[..., 0].transpose(1, 2)
