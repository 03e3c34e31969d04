"""The bundle's cameras. Frames, angles and axes: docs/conventions.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor

FIELD_OF_VIEW = 30.0
"""Degrees, horizontally and vertically."""
NEAR, FAR = 0.1, 1000.0
BUNDLE_ELEVATION = 5.0
BUNDLE_RADIUS = 4.15


class View(IntEnum):
    """The bundle's four columns by name; the value is the column."""

    FRONT = 0
    RIGHT = 1
    BACK = 2
    LEFT = 3

    @property
    def azimuth(self) -> float:
        """Degrees about +y; 90 puts the camera on +x."""
        return 90.0 * self.value


@dataclass(frozen=True)
class Cameras:
    """V pinhole cameras with OpenGL axes (x right, y up, looking along -z).

    Attributes:
        world_to_camera: (V, 4, 4), for column vectors.
        projection: (V, 4, 4), camera to OpenGL clip space (y up; z from -w at the near plane to +w at the far plane).
    """

    world_to_camera: Float[Tensor, "V 4 4"]
    projection: Float[Tensor, "V 4 4"]

    def __len__(self) -> int:
        return self.world_to_camera.shape[0]

    def __getitem__(self, views: Sequence[int]) -> Cameras:
        index = torch.as_tensor(views, device=self.world_to_camera.device)
        return Cameras(self.world_to_camera[index], self.projection[index])

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(self.world_to_camera.to(device), self.projection.to(device))

    @property
    def rotation(self) -> Float[Tensor, "V 3 3"]:
        """World to camera, without the translation; its rows are the camera's axes in the world."""
        return self.world_to_camera[:, :3, :3]

    @property
    def centers(self) -> Float[Tensor, "V 3"]:
        return -torch.einsum("vij,vi->vj", self.rotation, self.world_to_camera[:, :3, 3])

    def clip(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "V N 4"]:
        """World points in each camera's clip space. Differentiable in the points."""
        matrix = self.projection @ self.world_to_camera
        return torch.einsum("vij,nj->vni", matrix[:, :, :3], points) + matrix[:, None, :, 3]

    def normals_to_camera(self, normals: Float[Tensor, "N 3"]) -> Float[Tensor, "V N 3"]:
        return torch.einsum("vij,nj->vni", self.rotation, normals)

    def normals_to_world(self, normals: Float[Tensor, "V *S 3"]) -> Float[Tensor, "V *S 3"]:
        """Camera-space normals of each view, turned into the world frame."""
        flat = normals.reshape(len(self), -1, 3)
        return torch.einsum("vij,vni->vnj", self.rotation, flat).reshape(normals.shape)


def orbit_cameras(
    azimuths: Sequence[float],
    elevations: Sequence[float] | float = BUNDLE_ELEVATION,
    radius: float = BUNDLE_RADIUS,
    fov: float = FIELD_OF_VIEW,
) -> Cameras:
    """Cameras on a sphere about the origin, looking at it, y up.

    Args:
        azimuths: degrees about +y; 0 is in front (+z), 90 on +x.
        elevations: degrees above the xz plane, one for each azimuth or one for all; within (-90, 90).
        radius: distance to the origin, in world units.
        fov: degrees, the same in both directions.
    """
    if isinstance(elevations, int | float):
        elevations = [float(elevations)] * len(azimuths)
    a = torch.deg2rad(torch.tensor(list(azimuths), dtype=torch.float64))
    e = torch.deg2rad(torch.tensor(list(elevations), dtype=torch.float64))
    back = torch.stack([e.cos() * a.sin(), e.sin(), e.cos() * a.cos()], -1)
    right = torch.stack([a.cos(), torch.zeros_like(a), -a.sin()], -1)
    up = torch.linalg.cross(back, right, dim=-1)
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(len(azimuths), 1, 1)
    world_to_camera[:, :3, :3] = torch.stack([right, up, back], 1)
    world_to_camera[:, 2, 3] = -radius
    focal = 1 / math.tan(math.radians(fov) / 2)
    projection = torch.zeros(4, 4, dtype=torch.float64)
    projection[0, 0] = projection[1, 1] = focal
    projection[2, 2] = -(FAR + NEAR) / (FAR - NEAR)
    projection[2, 3] = -2 * FAR * NEAR / (FAR - NEAR)
    projection[3, 2] = -1
    return Cameras(world_to_camera.float(), projection.float().repeat(len(azimuths), 1, 1))


def bundle_cameras(radius: float = BUNDLE_RADIUS) -> Cameras:
    """The four cameras of the bundle's columns, in the order of `View`."""
    return orbit_cameras([view.azimuth for view in View], BUNDLE_ELEVATION, radius)
