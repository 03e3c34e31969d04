"""Depth maps of several views, and the input of their integration at one image size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from kiss3d_cli.geometry.cameras import Cameras


@dataclass(frozen=True)
class DepthMaps:
    """What V views see, as surfaces in space.

    Attributes:
        depth: (V, S, S) along the view axis, world units; 0 outside the mask.
        normals: (V, S, S, 3) in camera space, unit; 0 outside the mask.
        mask: (V, S, S).
        cameras: of the views.
    """

    depth: Float[Tensor, "V S S"]
    normals: Float[Tensor, "V S S 3"]
    mask: Bool[Tensor, "V S S"]
    cameras: Cameras

    def rays(self) -> Float[Tensor, "V S S 3"]:
        """Camera-space directions through the pixel centres, of depth 1."""
        return camera_rays(self.cameras, self.depth.shape[1])

    def points(self) -> Float[Tensor, "V S S 3"]:
        """World positions; the camera's own outside the mask."""
        rays = self.cameras.normals_to_world(self.rays())
        return self.cameras.centers[:, None, None] + self.depth[..., None] * rays


def camera_rays(cameras: Cameras, size: int) -> Float[Tensor, "V S S 3"]:
    """Camera-space directions through the pixel centres, of depth 1 (z = -1)."""
    line = (torch.arange(size, device=cameras.projection.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    tangent_x, tangent_y = 1 / cameras.projection[:, 0, 0], 1 / cameras.projection[:, 1, 1]
    x, y = x * tangent_x[:, None, None], y * tangent_y[:, None, None]
    return torch.stack([x, y, -torch.ones_like(x)], -1)


@dataclass(frozen=True)
class Level:
    """The input at one image size. V views, S x S pixels; `step` is a pixel's side at depth 1."""

    normals: Float[Tensor, "V S S 3"]
    mask: Bool[Tensor, "V S S"]
    nearest: Float[Tensor, "V S S"]
    farthest: Float[Tensor, "V S S"]
    start: Float[Tensor, "V S S"]
    rays: Float[Tensor, "V S S 3"]
    facing: Float[Tensor, "V S S"]
    step: float
    cameras: Cameras

    @staticmethod
    def at(
        normals: Float[Tensor, "V L L 3"],
        mask: Bool[Tensor, "V L L"],
        cameras: Cameras,
        nearest: Float[Tensor, "V L L"],
        farthest: Float[Tensor, "V L L"],
        start: Float[Tensor, "V L L"],
        size: int,
    ) -> Level:
        share = mask[..., None].to(normals)
        pooled = _pooled(normals * share, size)
        inside = (_pooled(share, size)[..., 0] >= 0.5) & (pooled.norm(dim=-1) > 1e-3)
        unit = normalize(pooled, dim=-1) * inside[..., None]
        rays = camera_rays(cameras, size)
        facing = (unit * rays).sum(-1).clamp_max(-0.05)  # a surface seen edge-on says nothing about its depth
        step = 2 / (size * float(cameras.projection[0, 0, 0]))
        near = _log_pooled(nearest, inside, size)
        far = torch.maximum(_log_pooled(farthest, inside, size), near)
        return Level(unit, inside, near, far, _log_pooled(start, inside, size), rays, facing, step, cameras)


def _pooled(image: Float[Tensor, "V L L C"], size: int) -> Float[Tensor, "V S S C"]:
    """Mean over blocks of pixels, or an interpolation if the image is not larger."""
    image = image.movedim(-1, 1)
    if image.shape[-1] % size == 0:
        small = avg_pool2d(image, image.shape[-1] // size)
    else:
        small = interpolate(image, (size, size), mode="bilinear", antialias=True)
    return small.movedim(1, -1)


def _log_pooled(depth: Float[Tensor, "V L L"], inside: Bool[Tensor, "V S S"], size: int) -> Float[Tensor, "V S S"]:
    """Log of the mean depth of each block's known pixels; unknown pixels inside the mask take their neighbours'."""
    known = (depth > 0).to(depth)[..., None]
    share = _pooled(known, size)[..., 0]
    mean = _pooled(depth[..., None] * known, size)[..., 0] / share.clamp_min(1e-6)
    return filled(mean.clamp_min(1e-6).log(), share > 0, inside)


def filled(
    values: Float[Tensor, "V S S"], known: Bool[Tensor, "V S S"], wanted: Bool[Tensor, "V S S"]
) -> Float[Tensor, "V S S"]:
    """Values grown from known pixels to all wanted ones, a ring at a time; the mean of a view where it can't grow."""
    for _ in range(values.shape[-1]):
        if not (wanted & ~known).any():
            break
        share = avg_pool2d(known.to(values)[:, None], 3, 1, 1)[:, 0]
        around = avg_pool2d((values * known)[:, None], 3, 1, 1)[:, 0] / share.clamp_min(1e-6)
        values = torch.where(known, values, around)
        known = known | (share > 0)
    return torch.where(known, values, 0)


def refined(maps: DepthMaps, level: Level) -> Float[Tensor, "V S S"]:
    """The log-depth of a coarser level on a finer one: each coarse pixel becomes a piece of its tangent plane."""
    coarse, fine = maps.depth.shape[1], level.mask.shape[1]
    index = (torch.arange(fine, device=maps.depth.device) * coarse) // fine

    def spread(image: Tensor) -> Tensor:
        return image[:, index][:, :, index]

    known = spread(maps.mask)
    normals, depth = spread(maps.normals), spread(maps.depth)
    rays = camera_rays(maps.cameras, coarse)
    facing = (maps.normals * rays).sum(-1).clamp_max(-0.2)
    at_fine = (normals * level.rays).sum(-1).clamp_max(-0.1)
    plane = depth.clamp_min(1e-6) * (spread(facing) / at_fine).clamp(0.95, 1.05)  # ray meets plane: n . (z r) constant
    return filled(plane.clamp_min(1e-6).log(), known, level.mask)
