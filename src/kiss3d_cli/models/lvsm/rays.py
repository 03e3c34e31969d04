"""Cameras as the network sees them: a Pluecker ray for every pixel, in a world turned so that the first camera is in
front.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Posed:
    """V cameras.

    Attributes:
        poses: world to camera, rigid, OpenGL axes. intrinsics: as of `pluecker`.
    """

    poses: Float[Tensor, "V 4 4"]
    intrinsics: Float[Tensor, "V 4"]

    @property
    def centers(self) -> Float[Tensor, "V 3"]:
        return -torch.einsum("vji,vj->vi", self.poses[:, :3, :3], self.poses[:, :3, 3])

    @property
    def matrix(self) -> Float[Tensor, "V 3 4"]:
        """From points to their places in the pictures, as `grid_sample` has them, times the distance along the axis,
        and that distance: fx x + (2 cx - 1) away, the same of y downwards, and away.
        """
        k, poses = self.intrinsics[:, :, None], self.poses
        across = 2 * k[:, 0] * poses[:, 0] - (2 * k[:, 2] - 1) * poses[:, 2]
        down = -2 * k[:, 1] * poses[:, 1] - (2 * k[:, 3] - 1) * poses[:, 2]
        return torch.stack([across, down, -poses[:, 2]], 1)

    def project(
        self, points: Float[Tensor, "N 3"] | Float[Tensor, "V N 3"]
    ) -> tuple[Float[Tensor, "V N 2"], Float[Tensor, "V N"]]:
        """Places in the pictures as `grid_sample` has them, and distances along the views' axes.

        Args:
            points: the same for all views, or of each.
        """
        matrix = self.matrix
        all_points = points.expand(len(matrix), -1, -1)
        found = torch.baddbmm(matrix[:, None, :, 3], all_points, matrix[:, :, :3].transpose(1, 2))
        away = found[..., 2]
        return found[..., :2] / away[..., None].clamp_min(1e-6), away

    def rays(self, size: int) -> Float[Tensor, "V P 3"]:
        """Through the middles of all pixels, row by row; a unit along the axis."""
        k = self.intrinsics[:, :, None, None]
        line = (torch.arange(size, device=k.device, dtype=k.dtype) + 0.5) / size
        x, y = ((line - k[:, 2]) / k[:, 0]), -((line[:, None] - k[:, 3]) / k[:, 1])
        x, y = (value.expand(len(k), size, size) for value in (x, y))
        return torch.stack([x, y, -torch.ones_like(x)], -1).flatten(1, 2) @ self.poses[:, :3, :3]


def turned_to(world_to_camera: Float[Tensor, "B V 4 4"], reference: Float[Tensor, "B 4 4"]) -> Float[Tensor, "B V 4 4"]:
    """The same cameras in a world turned about the upright axis, so that the reference has azimuth 0.

    What the network says then does not depend on which side of an object is called its front. The camera's right says
    the azimuth: it is level wherever the camera looks up or down.

    Args:
        world_to_camera: rigid, OpenGL axes, world with y up.
        reference: one camera of each sample.
    """
    x, z = reference[:, 0, 0].double(), reference[:, 0, 2].double()
    length = torch.sqrt(x**2 + z**2)
    level = length > 1e-6  # of a camera whose right points up there is no azimuth
    cos = torch.where(level, x / length.clamp_min(1e-6), torch.ones_like(x))
    sin = torch.where(level, -z / length.clamp_min(1e-6), torch.zeros_like(x))
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [[cos, zero, sin, zero], [zero, one, zero, zero], [-sin, zero, cos, zero], [zero, zero, zero, one]]
    turn = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return (world_to_camera.double() @ turn[:, None]).to(world_to_camera.dtype)


def pluecker(
    world_to_camera: Float[Tensor, "*B 4 4"], intrinsics: Float[Tensor, "*B 4"], size: int
) -> Float[Tensor, "*B 6 H W"]:
    """Direction (unit) and moment (origin x direction) of the ray through every pixel's centre.

    Args:
        world_to_camera: rigid, OpenGL axes.
        intrinsics: focal lengths and principal point (x to the right, y down), in shares of the picture's side.
        size: pixels a side.
    """
    rotation, shift = world_to_camera[..., :3, :3], world_to_camera[..., :3, 3]
    centre = -(rotation.transpose(-1, -2) @ shift[..., None])[..., 0]
    line = (torch.arange(size, device=shift.device, dtype=shift.dtype) + 0.5) / size
    fx, fy, cx, cy = (value[..., None, None] for value in intrinsics.unbind(-1))
    x = ((line - cx) / fx).expand(*shift.shape[:-1], size, size)
    y = (-(line[:, None] - cy) / fy).expand(*shift.shape[:-1], size, size)
    local = torch.stack([x, y, -torch.ones_like(x)], -3)
    world = torch.einsum("...ji,...jhw->...ihw", rotation, local)
    direction = world / world.norm(dim=-3, keepdim=True)
    moment = torch.linalg.cross(centre[..., None, None].expand_as(direction), direction, dim=-3)
    return torch.cat([direction, moment], -3)
