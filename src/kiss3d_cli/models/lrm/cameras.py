"""The cameras that the network is told, and its frame.

The LRM frame is z up. A camera at azimuth a and elevation e stands at `r (cos e cos a, cos e sin a, sin e)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

RADIUS = 3.5
ELEVATION = 5.0
FIELD_OF_VIEW = 30.0
"""Degrees."""

BUNDLE_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
"""LRM azimuths of the bundle's columns; they are the columns' azimuths in the world."""

MULTIVIEW_AZIMUTHS = (270.0, 0.0, 90.0, 180.0)
"""LRM azimuths of the four generated views, in the order of the bundle's columns.

The multiview model's tiles show 90, 180, 270 and 0 degrees and are told to the network as 0, 90, 180 and 270, as it
is published: the object comes out turned, and `to_world` with `azimuth=90` turns it back.
"""


def camera_vectors(
    azimuths: Sequence[float], elevation: float = ELEVATION, radius: float = RADIUS, fov: float = FIELD_OF_VIEW
) -> Float[Tensor, "V 16"]:
    """Each camera as the network takes it: the 3x4 camera-to-LRM matrix row by row, then fx, fy, cx, cy.

    Args:
        azimuths: degrees about +z, 0 on +x.
        elevation: degrees above the xy plane.
        radius: distance to the origin, in LRM units.
        fov: degrees; the focal lengths and the centre are in image widths.
    """
    a = torch.deg2rad(torch.tensor(list(azimuths), dtype=torch.float64))
    e = torch.deg2rad(torch.tensor(elevation, dtype=torch.float64)).expand_as(a)
    back = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], -1)
    right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)], -1)
    up = torch.linalg.cross(back, right, dim=-1)
    pose = torch.stack([right, up, back, radius * back], -1)
    focal = 0.5 / math.tan(math.radians(fov) / 2)
    lens = torch.tensor([focal, focal, 0.5, 0.5], dtype=torch.float64).expand(len(a), 4)
    return torch.cat([pose.reshape(len(a), 12), lens], -1).float()


def to_world(points: Float[Tensor, "N 3"], azimuth: float = 0.0) -> Float[Tensor, "N 3"]:
    """Points of the LRM frame in the world frame (y up, front +z).

    Args:
        points: positions or directions in the LRM frame.
        azimuth: degrees; what is at azimuth a in the LRM frame is at a + azimuth in the world.
    """
    angle = math.radians(azimuth)
    x, y, z = points.unbind(-1)
    turned_x = math.cos(angle) * x - math.sin(angle) * y
    turned_y = math.sin(angle) * x + math.cos(angle) * y
    return torch.stack([turned_y, z, turned_x], -1)
