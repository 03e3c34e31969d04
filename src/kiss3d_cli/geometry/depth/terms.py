"""The terms of normal integration: slopes, bounds by the visual hull, and agreement between views.

Each takes the present log-depth u of all views and gives the weights and residuals of a linear least-squares problem
in its correction (Gauss-Newton with iterative reweighting).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.geometry.depth.maps import Level
from kiss3d_cli.geometry.extract.hull import HullField

_SAME_NORMAL = 0.8
"""Cosine between two views' normals above which they may show the same place."""
_FACING = 0.1
"""A surface is seen if minus its normal times a ray of depth 1 is over this."""
_GAP_TOLERANCE = 0.005
"""World units outside the hull up to which a surface is left alone."""
_GAP_REACH = 0.3
"""World units along the ray over which a surface in a gap of the hull looks for its way out."""


@dataclass(frozen=True)
class Slopes:
    right: Float[Tensor, "V S S-1"]
    down: Float[Tensor, "V S-1 S"]
    residual: Float[Tensor, "V S S"]


def slope_terms(level: Level, u: Float[Tensor, "V S S"], sharpness: float, first: bool) -> Slopes:
    """Weights and residuals of the slopes (Cao et al. 2022, equations 18 to 21).

    A pixel with normal n and ray r asks of its neighbours n . r (u' - u) = -n . (r' - r), in units of a pixel.
    """
    inside = level.mask
    facing = level.facing / level.step
    pair_right, pair_down = inside[:, :, 1:] & inside[:, :, :-1], inside[:, 1:] & inside[:, :-1]
    rise_right = torch.where(pair_right, u[:, :, 1:] - u[:, :, :-1], 0)
    rise_down = torch.where(pair_down, u[:, 1:] - u[:, :-1], 0)

    def weights(rise: Tensor, pair: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Of each pair's first and second pixel: how much it takes the other for its continuation."""
        count = u.shape[axis]
        ahead_jump = torch.full_like(u, 1e3)
        behind_jump = torch.full_like(u, 1e3)
        leading, trailing = facing.narrow(axis, 0, count - 1), facing.narrow(axis, 1, count - 1)
        ahead_jump.narrow(axis, 0, count - 1).copy_(torch.where(pair, (leading * rise) ** 2, 1e3))
        behind_jump.narrow(axis, 1, count - 1).copy_(torch.where(pair, (trailing * rise) ** 2, 1e3))
        ahead = torch.full_like(u, 0.5) if first else torch.sigmoid(sharpness * (behind_jump - ahead_jump))
        first_weight = ahead.narrow(axis, 0, count - 1) * leading**2 * pair
        second_weight = (1 - ahead).narrow(axis, 1, count - 1) * trailing**2 * pair
        return first_weight, second_weight

    residual = torch.zeros_like(u)
    totals = []
    for axis, rise, pair, component, sign in (
        (2, rise_right, pair_right, level.normals[..., 0], -1.0),
        (1, rise_down, pair_down, level.normals[..., 1], 1.0),
    ):
        count = u.shape[axis]
        one, two = weights(rise, pair, axis)
        slope = sign * component * level.step / level.facing
        error_one = one * (slope.narrow(axis, 0, count - 1) - rise)
        error_two = two * (slope.narrow(axis, 1, count - 1) - rise)
        residual.narrow(axis, 1, count - 1).add_(error_one + error_two)
        residual.narrow(axis, 0, count - 1).sub_(error_one + error_two)
        totals.append(one + two)
    return Slopes(totals[0], totals[1], residual)


@dataclass(frozen=True)
class Walls:
    """
    Attributes:
        log_depth: (V, S, S) where each pixel's surface is let go to.
        distance: (V, S, S) how far its surface is from there, in world units; not positive where it may stay.
    """

    log_depth: Float[Tensor, "V S S"]
    distance: Float[Tensor, "V S S"]


def hull_walls(level: Level, u: Float[Tensor, "V S S"]) -> Walls:
    """The hull's front for what lies before it, its back for what lies behind it."""
    distance = torch.maximum(level.nearest - u, u - level.farthest) * u.exp()
    return Walls(torch.where(u > level.farthest, level.farthest, level.nearest), distance)


def gap_walls(level: Level, u: Float[Tensor, "V S S"], hull: HullField, walls: Walls) -> Walls:
    """The nearest way into the hull along the ray for what lies in one of its gaps; the given walls for the rest."""
    inside = level.mask
    rays = level.cameras.normals_to_world(level.rays)[inside]
    eyes = level.cameras.centers[inside.nonzero()[:, 0]]
    depth = u[inside].exp()
    lost = (hull.at(eyes + depth[:, None] * rays) > _GAP_TOLERANCE) & (walls.distance[inside] <= 0)
    lost = lost.nonzero()[:, 0]
    steps = torch.linspace(_GAP_TOLERANCE * 2, _GAP_REACH, 16, device=u.device)
    steps = torch.stack([steps, -steps], 1).flatten()
    tried = depth[lost, None] + steps
    points = eyes[lost, None] + tried[..., None] * rays[lost, None]
    good = hull.at(points.reshape(-1, 3)).reshape(tried.shape) < 0
    found = good.any(1)
    first = good.int().argmax(1)[found]
    pixel = inside.reshape(-1).nonzero()[:, 0][lost[found]]
    log_depth, distance = walls.log_depth.clone(), walls.distance.clone()
    log_depth.view(-1)[pixel] = tried[found].gather(1, first[:, None])[:, 0].log()
    distance.view(-1)[pixel] = steps[first].abs()
    return Walls(log_depth, distance)


@dataclass(frozen=True)
class Pairs:
    """K places seen by two views. Moving pixel `one` by du moves the first surface by `lift_one` du along its normal;
    `gap` is the distance between the two along it."""

    one: Int[Tensor, " K"]
    two: Int[Tensor, " K"]
    lift_one: Float[Tensor, " K"]
    lift_two: Float[Tensor, " K"]
    gap: Float[Tensor, " K"]
    weight: Float[Tensor, " K"]

    def add(self, out: Float[Tensor, "V S S"], x: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
        """`out` plus the pairs' part of the matrix times `x`."""
        flat = x.reshape(-1)
        move = self.weight * (self.lift_one * flat[self.one] - self.lift_two * flat[self.two])
        return self._spread(out, move)

    def _spread(self, out: Float[Tensor, "V S S"], value: Float[Tensor, " K"]) -> Float[Tensor, "V S S"]:
        total = out.reshape(-1).index_add(0, self.one, self.lift_one * value)
        return total.index_add(0, self.two, -self.lift_two * value).reshape(out.shape)

    def right_side(self, out: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
        return self._spread(out, -self.weight * self.gap)

    def diagonal(self, out: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
        total = out.reshape(-1).index_add(0, self.one, self.weight * self.lift_one**2)
        return total.index_add(0, self.two, self.weight * self.lift_two**2).reshape(out.shape)


def find_pairs(level: Level, u: Float[Tensor, "V S S"], length: float, reach: float, behind: float) -> Pairs:
    """For every pixel and every other view: what that view shows at the pixel's place, if it is the same surface.

    Args:
        length: over which an error of its own size spreads when it balances the slopes.
        reach: distance up to which two surfaces are taken for the same, the first in front of the other.
        behind: the same for the first behind the other.
    """
    cameras, size = level.cameras, level.mask.shape[1]
    rays = cameras.normals_to_world(level.rays)
    normals = cameras.normals_to_world(level.normals)
    depth = torch.where(level.mask, u.exp(), 0)
    points = cameras.centers[:, None, None] + depth[..., None] * rays
    clip = cameras.clip(points[level.mask])
    flat_mask = level.mask.reshape(-1)
    source = flat_mask.nonzero()[:, 0]
    ones, twos = [], []
    for view in range(len(cameras)):
        where = (clip[view, :, :2] / clip[view, :, 3:] * clip.new_tensor([1.0, -1.0]) + 1) / 2 * size
        column, row = where.floor().long().unbind(-1)
        seen = (column >= 0) & (column < size) & (row >= 0) & (row < size) & (source // size**2 != view)
        target = (view * size + row.clamp(0, size - 1)) * size + column.clamp(0, size - 1)
        seen &= flat_mask[target]
        ones.append(source[seen])
        twos.append(target[seen])
    one, two = torch.cat(ones), torch.cat(twos)
    flat_points, flat_normals = points.reshape(-1, 3), normals.reshape(-1, 3)
    normal = flat_normals[one]
    flat_rays, flat_depth = rays.reshape(-1, 3), depth.reshape(-1)
    agree = ((normal * flat_normals[two]).sum(-1) > _SAME_NORMAL) & ((normal * flat_rays[two]).sum(-1) < -_FACING)
    one, two, normal = one[agree], two[agree], normal[agree]
    gap = (normal * (flat_points[one] - flat_points[two])).sum(-1)
    limit = torch.where(gap > 0, reach, behind)
    weight = (1 / length**2) / (1 + (gap / (0.5 * limit)) ** 2) * (gap.abs() < limit)
    lift_one = (normal * flat_rays[one]).sum(-1) * flat_depth[one]
    lift_two = (normal * flat_rays[two]).sum(-1) * flat_depth[two]
    keep = weight > 0
    return Pairs(one[keep], two[keep], lift_one[keep], lift_two[keep], gap[keep], weight[keep])


@dataclass(frozen=True)
class System:
    """Normal equations of the round: edges to the right and downward, each pixel's own part, and pairs across views."""

    right: Float[Tensor, "V S S-1"]
    down: Float[Tensor, "V S-1 S"]
    own: Float[Tensor, "V S S"]
    pairs: Pairs

    def times(self, x: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
        out = self.own * x
        across = self.right * (x[:, :, 1:] - x[:, :, :-1])
        out[:, :, 1:] += across
        out[:, :, :-1] -= across
        along = self.down * (x[:, 1:] - x[:, :-1])
        out[:, 1:] += along
        out[:, :-1] -= along
        return self.pairs.add(out, x)

    def diagonal(self) -> Float[Tensor, "V S S"]:
        out = self.own.clone()
        out[:, :, 1:] += self.right
        out[:, :, :-1] += self.right
        out[:, 1:] += self.down
        out[:, :-1] += self.down
        return self.pairs.diagonal(out)
