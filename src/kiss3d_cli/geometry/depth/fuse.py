"""One closed surface from depth maps with normals.

The indicator of the solid (1 inside, 0 outside) is the function whose gradient is closest to the oriented points and
that is 1/2 on them: screened Poisson reconstruction (Kazhdan and Hoppe 2013), here on a regular grid. It is 0 wherever
a silhouette says so. What no view shows is filled in smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.depth.conjugate_gradients import conjugate_gradients
from kiss3d_cli.geometry.depth.maps import DepthMaps
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.extract.hull import HullField, grid_points
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.components import keep_large_components

_COARSEST = 20
"""Grid points along a side at which the solution starts."""
_SCREENING = 30.0
"""Weight of the value 1/2 on the points against the gradient, for a point that stands for one cell's side squared."""
_FILLING_LENGTH = 0.05
"""World units over which the gradient would have to err by itself to outweigh that what all views hide is solid."""
_CRUMB = 0.005
"""Pieces with less than this share of the largest one's faces are dropped."""
_MIN_POINTS = 100
_CLEARLY_BETTER = 1.5
_WELL_SEEN = 0.3
"""One view overrules another where its cosine is that much larger, and larger than this."""
_SAME_PLACE = 0.03
"""World units between two views' surfaces up to which a place of one is seen in the other."""
_LEAST_VISIBILITY = 0.06
"""Sum of cos^2 over the views that is assumed for what they hardly see, so that no area becomes infinite."""


@dataclass(frozen=True)
class OrientedPoints:
    """Samples of a surface.

    Attributes:
        positions: (N, 3) in the world frame.
        normals: (N, 3) outward, unit.
        areas: (N,) the surface that each stands for, in squared world units.
    """

    positions: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3"]
    areas: Float[Tensor, " N"]


def fuse_depths(
    maps: DepthMaps,
    hull: HullField,
    resolution: int = 96,
    bound: float = 1.05,
) -> Mesh:
    """The closed surface through all depth maps, without small components.

    Args:
        maps: what the views see.
        hull: what the silhouettes allow.
        resolution: grid points along each side.
        bound: half the side of the grid.

    Raises:
        BadInput: too few pixels, or no solid behind them.
    """
    points = sample_depths(maps)
    if len(points.areas) < _MIN_POINTS:
        raise BadInput(
            f"The views show only {len(points.areas)} pixels of the object.", hint="Give larger pictures of it."
        )
    step = 2 * bound / (resolution - 1)
    outside = hull.grid(resolution, bound) > step / 2
    hidden = _hidden(maps, resolution, bound) & ~outside
    # Below the lowest place that any view shows nothing speaks for more of the object: what stands, stands flat.
    hidden &= grid_points(resolution, bound, hidden.device)[..., 1] > points.positions[:, 1].amin()
    indicator = solve_indicator(points, outside, hidden, bound)
    mesh = isosurface(0.5 - indicator, (-bound,) * 3, (bound,) * 3) if bool((indicator > 0.5).any()) else None
    if mesh is None:
        raise BadInput(
            "The normals bound no solid.", hint="Check that they point out of the object, towards the cameras."
        )
    return keep_large_components(mesh, _CRUMB)


def sample_depths(maps: DepthMaps) -> OrientedPoints:
    """A point for every pixel; where several views show the same place they share its area.

    A pixel of side s at depth 1 covers (s z)^2 / cos of the surface. Its share among the views that see the place is
    cos^2 / sum of cos^2, so grazing views count little. A pixel whose place another view, with a much better angle,
    sees through is left out.
    """
    seen, size = maps.mask, maps.depth.shape[1]
    positions = maps.points()[seen]
    world_normals = maps.cameras.normals_to_world(maps.normals)
    rays = normalize(maps.cameras.normals_to_world(maps.rays()), dim=-1)
    cosines = -(world_normals * rays).sum(-1)
    normals, cosine = world_normals[seen], cosines[seen].clamp_min(1e-3)

    to_camera = normalize(maps.cameras.centers[:, None] - positions, dim=-1)
    facing = (to_camera * normals).sum(-1).clamp_min(0)
    clip = maps.cameras.clip(positions)
    where = (clip[..., :2] / clip[..., 3:] * clip.new_tensor([1.0, -1.0]) + 1) / 2 * size
    column, row = where.floor().long().clamp(0, size - 1).unbind(-1)
    view = torch.arange(len(clip), device=clip.device)[:, None]
    surface, better = maps.depth[view, row, column], cosines[view, row, column]
    in_front = (surface > 0) & (clip[..., 3] < surface - _SAME_PLACE)
    overruled = (in_front & (better > _CLEARLY_BETTER * cosine) & (better > _WELL_SEEN)).any(0)
    total = (facing**2 * (clip[..., 3] < surface + _SAME_PLACE)).sum(0).clamp_min(_LEAST_VISIBILITY)
    side = (2 / (size * maps.cameras.projection[:, 0, 0]))[:, None, None] * maps.depth
    areas = side[seen] ** 2 * cosine / total
    return OrientedPoints(positions[~overruled], normals[~overruled], areas[~overruled])


def _hidden(maps: DepthMaps, resolution: int, bound: float) -> Bool[Tensor, "R R R"]:
    """Which points of a grid lie behind the surface, or right on it, in every view."""
    size = maps.depth.shape[1]
    grid = grid_points(resolution, bound, maps.depth.device)
    view = torch.arange(len(maps.cameras), device=maps.depth.device)[:, None]
    parts = []
    for slab in torch.split(grid, 16):
        clip = maps.cameras.clip(slab.reshape(-1, 3))
        where = (clip[..., :2] / clip[..., 3:] * clip.new_tensor([1.0, -1.0]) + 1) / 2 * size
        column, row = where.floor().long().clamp(0, size - 1).unbind(-1)
        surface = maps.depth[view, row, column]
        parts.append(((surface > 0) & (clip[..., 3] > surface - 0.5 * _SAME_PLACE)).all(0))
    return torch.cat(parts).reshape(grid.shape[:3])


def solve_indicator(
    points: OrientedPoints, outside: Bool[Tensor, "R R R"], hidden: Bool[Tensor, "R R R"], bound: float
) -> Float[Tensor, "R R R"]:
    """The indicator of the solid on a grid over [-bound, bound]^3.

    Coarse grids give the fine ones their start, so that few iterations do.

    Args:
        outside: where it is 0.
        hidden: where it is drawn towards 1.
    """
    resolution = outside.shape[0]
    sizes = [resolution]
    while sizes[-1] // 2 >= _COARSEST:
        sizes.append(sizes[-1] // 2)
    solution: Tensor | None = None
    for size in reversed(sizes):
        share = interpolate(outside[None, None].float(), (size,) * 3, mode="trilinear", align_corners=True)[0, 0]
        free = share < 0.999
        solid = interpolate(hidden[None, None].float(), (size,) * 3, mode="trilinear", align_corners=True)[0, 0]
        solid = solid * (2 * bound / (size - 1) / _FILLING_LENGTH) ** 2
        if solution is None:
            start = torch.zeros_like(share)
        else:
            start = interpolate(solution[None, None], (size,) * 3, mode="trilinear", align_corners=True)[0, 0]
        solution = _Grid.of(points, free, solid, bound).solve(start * free)
    assert solution is not None
    return solution


@dataclass(frozen=True)
class _Grid:
    """The normal equations on one grid. C cells hold points; each has one interpolated value at their mean.

    Attributes:
        free: (R, R, R) where the indicator is unknown; elsewhere it is 0.
        solid: (R, R, R) weight of the value 1.
        flux: (R, R, R) divergence of the oriented points.
        corners: (C, 8) flat indices of each cell's corners.
        weights: (C, 8) trilinear weights of the mean point.
        screening: (C,)
    """

    free: Float[Tensor, "R R R"]
    solid: Float[Tensor, "R R R"]
    flux: Float[Tensor, "R R R"]
    corners: Int[Tensor, "C 8"]
    weights: Float[Tensor, "C 8"]
    screening: Float[Tensor, " C"]

    @staticmethod
    def of(points: OrientedPoints, free: Bool[Tensor, "R R R"], solid: Float[Tensor, "R R R"], bound: float) -> _Grid:
        size = free.shape[0]
        step = 2 * bound / (size - 1)
        place = ((points.positions + bound) / step).clamp(1e-3, size - 1 - 1e-3)
        flux = torch.zeros(size**3, device=free.device, dtype=place.dtype)
        for axis in range(3):
            # Components live half-way between grid points, as differences of the indicator do.
            half = torch.zeros(3, device=free.device)
            half[axis] = 0.5
            corners, weights = _trilinear((place - half).clamp(0, size - 1 - 1e-3), size)
            amount = -points.normals[:, axis] * points.areas / step**2  # per face of a cell, times the step
            values = (weights * amount[:, None]).flatten()
            stride = size ** (2 - axis)
            flux = flux.index_add(0, corners.flatten(), -values)
            flux = flux.index_add(0, (corners + stride).flatten().clamp_max(size**3 - 1), values)
        cell = (place.long() * place.new_tensor([size**2, size, 1]).long()).sum(1)
        used, which = torch.unique(cell, return_inverse=True)
        area = torch.zeros(len(used), device=free.device).index_add(0, which, points.areas)
        mean = torch.zeros(len(used), 3, device=free.device).index_add(0, which, place * points.areas[:, None])
        corners, weights = _trilinear(mean / area[:, None], size)
        return _Grid(free.float(), solid, flux.reshape(free.shape), corners, weights, _SCREENING * area / step**2)

    def solve(self, start: Float[Tensor, "R R R"], iterations: int = 60) -> Float[Tensor, "R R R"]:
        """Conjugate gradients, Jacobi-preconditioned, from `start`."""
        half = torch.zeros_like(start).flatten()
        half = half.index_add(0, self.corners.flatten(), (self.weights * (0.5 * self.screening)[:, None]).flatten())
        diagonal = torch.full_like(start, 6.0).flatten()
        diagonal = diagonal.index_add(0, self.corners.flatten(), (self.weights**2 * self.screening[:, None]).flatten())

        return conjugate_gradients(
            self._times,
            (self.flux + self.solid + half.reshape(start.shape)) * self.free,
            diagonal.reshape(start.shape) + self.solid,
            start,
            iterations=iterations,
        )

    def _times(self, x: Float[Tensor, "R R R"]) -> Float[Tensor, "R R R"]:
        out = self.solid * x
        for axis in range(3):
            count = x.shape[axis] - 1
            rise = x.narrow(axis, 1, count) - x.narrow(axis, 0, count)
            out.narrow(axis, 1, count).add_(rise)
            out.narrow(axis, 0, count).sub_(rise)
        value = (x.flatten()[self.corners] * self.weights).sum(1) * self.screening
        out = out.flatten().index_add(0, self.corners.flatten(), (self.weights * value[:, None]).flatten())
        return out.reshape(x.shape) * self.free


def _trilinear(place: Float[Tensor, "N 3"], size: int) -> tuple[Int[Tensor, "N 8"], Float[Tensor, "N 8"]]:
    """Flat indices and weights of the 8 grid points around each place, given in grid steps."""
    low = place.floor().clamp(0, size - 2)
    part = place - low
    offsets = torch.cartesian_prod(*[torch.arange(2, device=place.device)] * 3)
    index = low.long()[:, None] + offsets
    weight = torch.where(offsets.bool(), part[:, None], 1 - part[:, None]).prod(-1)
    return (index[..., 0] * size + index[..., 1]) * size + index[..., 2], weight
