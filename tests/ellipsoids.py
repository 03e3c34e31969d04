"""Ellipsoids cut with rays in closed form: views whose depths and normals are known without any renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RADIUS, ELEVATION, HALF_FIELD = 4.15, math.radians(5), math.radians(15)


@dataclass(frozen=True)
class Ellipsoid:
    center: tuple[float, float, float]
    radii: tuple[float, float, float]

    def implicit(self, points: Tensor) -> Tensor:
        """Below 1 inside, 1 on the surface."""
        return ((points.double() - torch.tensor(self.center)) / torch.tensor(self.radii)).norm(dim=-1)

    def distance(self, points: Tensor) -> Tensor:
        """To the surface, signed, to first order: (f - 1) / |grad f|."""
        scaled = (points.double() - torch.tensor(self.center)) / torch.tensor(self.radii)
        length = scaled.norm(dim=-1)
        return (length - 1) * length / (scaled / torch.tensor(self.radii)).norm(dim=-1)


@dataclass(frozen=True)
class Cast:
    """What the four bundle views see: camera-space normals, mask, depth along the view axis."""

    normals: Tensor
    mask: Tensor
    depth: Tensor


def cast(solids: list[Ellipsoid], size: int) -> Cast:
    """Cameras and axes as in docs/conventions.md, written out here once more."""
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(line, line, indexing="ij")
    tangent = math.tan(HALF_FIELD)
    rays = torch.stack([right * tangent, -down * tangent, -torch.ones_like(right)], -1)
    normals, masks, depths = [], [], []
    for azimuth in (0, math.pi / 2, math.pi, 3 * math.pi / 2):
        back = torch.tensor(
            [math.cos(ELEVATION) * math.sin(azimuth), math.sin(ELEVATION), math.cos(ELEVATION) * math.cos(azimuth)],
            dtype=torch.float64,
        )
        x = torch.tensor([math.cos(azimuth), 0, -math.sin(azimuth)], dtype=torch.float64)
        axes = torch.stack([x, torch.linalg.cross(back, x), back])
        eye, ways = RADIUS * back, rays @ axes
        depth = torch.full((size, size), torch.inf, dtype=torch.float64)
        normal = torch.zeros(size, size, 3, dtype=torch.float64)
        for solid in solids:
            radii = torch.tensor(solid.radii, dtype=torch.float64)
            start, way = (eye - torch.tensor(solid.center)) / radii, ways / radii
            a, b, c = (way**2).sum(-1), (way * start).sum(-1), (start**2).sum() - 1
            met = (-b - (b**2 - a * c).clamp_min(0).sqrt()) / a
            nearer = (b**2 > a * c) & (met < depth)
            outward = torch.nn.functional.normalize((start + met[..., None] * way) / radii, dim=-1) @ axes.T
            depth = torch.where(nearer, met, depth)
            normal = torch.where(nearer[..., None], outward, normal)
        seen = depth.isfinite()
        normals.append(normal)
        masks.append(seen)
        depths.append(torch.where(seen, depth, 0))
    return Cast(torch.stack(normals).float(), torch.stack(masks), torch.stack(depths).float())
