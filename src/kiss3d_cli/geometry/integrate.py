"""Depth maps from the normal maps of several views, all at once.

A normal map fixes a depth map up to one factor for each piece without a jump. The pieces are found as in Cao et al.
2022 ("Bilateral normal integration", perspective form): every pixel relates to its left or right, upper or lower
neighbour, whichever continues its surface. The factors come from the other views: no surface lies in front of the
visual hull, every piece touches it somewhere, and two views that see the same place agree on where it is.

All terms form one sparse least-squares problem in u = log(depth), solved by iteratively reweighted conjugate
gradients from coarse images to fine ones. Lengths are world units, so weights mean the same at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from kiss3d_cli.geometry.cameras import Cameras

_SAME_NORMAL = 0.8
"""Cosine between two views' normals above which they may show the same place."""
_FACING = 0.1
"""A surface is seen if minus its normal times a ray of depth 1 is over this."""


@dataclass(frozen=True)
class IntegrationSettings:
    """How the terms weigh against the slopes that the normals ask for. A term of length L balances them where an error
    of its own size spreads over L.

    Attributes:
        sizes: sides of the images worked on, coarse to fine.
        rounds: reweightings at each size.
        iterations: conjugate gradient steps at most in each round.
        sharpness: of the choice between two neighbours (k of Cao et al. 2022).
        hull_length: of the bounds by the visual hull.
        hull_slack: distances beyond a bound over this count only in proportion.
        agreement_length: of the agreement between views.
        pull: slope with which every surface is drawn towards its start (an L1 term).
        reach: distances between two views' surfaces up to which they are taken for the same, at the start and at the
            end, where the first lies in front of what the second sees.
        reach_behind: the same where it lies behind, which the second view may simply not see.
    """

    sizes: tuple[int, ...] = (64, 128, 256)
    rounds: tuple[int, ...] = (8, 6, 4)
    iterations: int = 100
    sharpness: float = 8.0
    hull_length: float = 0.08
    hull_slack: float = 0.01
    agreement_length: float = 0.2
    pull: float = 0.01
    reach: tuple[float, float] = (0.3, 0.03)
    reach_behind: tuple[float, float] = (0.1, 0.03)


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


def integrate_normals(
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    nearest: Float[Tensor, "V S S"],
    farthest: Float[Tensor, "V S S"],
    start: Float[Tensor, "V S S"] | None = None,
    settings: IntegrationSettings | None = None,
) -> DepthMaps:
    """The depth maps that fit all normal maps, the visual hull and each other best.

    Args:
        normals: camera-space unit normals (x right, y up, z to the viewer).
        mask: where the normals count.
        cameras: one for each view.
        nearest, farthest: depth of the visual hull's front and back, 0 where a pixel misses it.
        start: depth to begin from and to be drawn to, 0 where unknown; the hull if None.
        settings: weights and sizes.
    """
    settings = settings or IntegrationSettings()
    start = nearest if start is None else torch.where(start > 0, torch.maximum(start, nearest), nearest)
    total = sum(settings.rounds)
    done = 0
    maps: DepthMaps | None = None
    for size, rounds in zip(settings.sizes, settings.rounds, strict=True):
        level = _Level.at(normals, mask, cameras, nearest, farthest, start, size)
        log_depth = level.start if maps is None else _refined(maps, level)
        for _ in range(rounds):
            progress = done / max(total - 1, 1)
            log_depth = _solve(level, log_depth, settings, progress, first=done == 0)
            done += 1
        depth = torch.where(level.mask, log_depth.exp(), 0)
        maps = DepthMaps(depth, level.normals, level.mask, cameras)
    assert maps is not None
    return maps


@dataclass(frozen=True)
class _Level:
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
    ) -> _Level:
        share = mask[..., None].to(normals)
        pooled = _pooled(normals * share, size)
        inside = (_pooled(share, size)[..., 0] >= 0.5) & (pooled.norm(dim=-1) > 1e-3)
        unit = normalize(pooled, dim=-1) * inside[..., None]
        rays = camera_rays(cameras, size)
        facing = (unit * rays).sum(-1).clamp_max(-0.05)  # a surface seen edge-on says nothing about its depth
        step = 2 / (size * float(cameras.projection[0, 0, 0]))
        near = _log_pooled(nearest, inside, size)
        far = torch.maximum(_log_pooled(farthest, inside, size), near)
        return _Level(unit, inside, near, far, _log_pooled(start, inside, size), rays, facing, step, cameras)


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
    return _filled(mean.clamp_min(1e-6).log(), share > 0, inside)


def _filled(
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


def _refined(maps: DepthMaps, level: _Level) -> Float[Tensor, "V S S"]:
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
    return _filled(plane.clamp_min(1e-6).log(), known, level.mask)


@dataclass(frozen=True)
class _System:
    """Normal equations of the round: edges to the right and downward, a diagonal, and pairs across views."""

    right: Float[Tensor, "V S S-1"]
    down: Float[Tensor, "V S-1 S"]
    diagonal: Float[Tensor, "V S S"]
    pairs: _Pairs
    preconditioner: Float[Tensor, "V S S"]

    def times(self, x: Float[Tensor, "V S S"]) -> Float[Tensor, "V S S"]:
        out = self.diagonal * x
        across = self.right * (x[:, :, 1:] - x[:, :, :-1])
        out[:, :, 1:] += across
        out[:, :, :-1] -= across
        along = self.down * (x[:, 1:] - x[:, :-1])
        out[:, 1:] += along
        out[:, :-1] -= along
        return self.pairs.add(out, x)


@dataclass(frozen=True)
class _Pairs:
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


def _solve(
    level: _Level, u: Float[Tensor, "V S S"], settings: IntegrationSettings, progress: float, first: bool
) -> Float[Tensor, "V S S"]:
    """One round: weights from the present log-depth `u`, then the least-squares correction."""
    slopes = _slope_terms(level, u, settings.sharpness, first)
    inside = level.mask.to(u)
    depth = u.exp()
    # The energy is a sum over pixels of (slope error)^2 + (distance / length)^2.
    cosine = level.facing / level.rays.norm(dim=-1)
    over = torch.maximum(level.nearest - u, u - level.farthest) * depth
    wall = torch.where(u > level.farthest, level.farthest, level.nearest)
    bound = ((over > 0) | first).to(u) * (depth / settings.hull_length) ** 2 * inside * cosine**2
    bound = bound * (settings.hull_slack / over.clamp_min(settings.hull_slack))
    pull = settings.pull * depth / (u - level.start).abs().clamp_min(level.step) * inside
    pairs = _find_pairs(level, u, settings, progress)
    diagonal = bound + pull + (1 - inside)
    right_side = slopes.residual + bound * (wall - u) + pull * (level.start - u)
    right_side = pairs.right_side(right_side * inside)
    jacobi = diagonal.clone()
    jacobi[:, :, 1:] += slopes.right
    jacobi[:, :, :-1] += slopes.right
    jacobi[:, 1:] += slopes.down
    jacobi[:, :-1] += slopes.down
    system = _System(slopes.right, slopes.down, diagonal, pairs, pairs.diagonal(jacobi))
    return u + _conjugate_gradients(system, right_side, settings.iterations)


@dataclass(frozen=True)
class _Slopes:
    right: Float[Tensor, "V S S-1"]
    down: Float[Tensor, "V S-1 S"]
    residual: Float[Tensor, "V S S"]


def _slope_terms(level: _Level, u: Float[Tensor, "V S S"], sharpness: float, first: bool) -> _Slopes:
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
    return _Slopes(totals[0], totals[1], residual)


def _find_pairs(level: _Level, u: Float[Tensor, "V S S"], settings: IntegrationSettings, progress: float) -> _Pairs:
    """For every pixel and every other view: what that view shows at the pixel's place, if it is the same surface."""
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
    flat_points, flat_normals, flat_rays = (image.reshape(-1, 3) for image in (points, normals, rays))
    normal, flat_depth = flat_normals[one], depth.reshape(-1)
    agree = ((normal * flat_normals[two]).sum(-1) > _SAME_NORMAL) & ((normal * flat_rays[two]).sum(-1) < -_FACING)
    one, two, normal = one[agree], two[agree], normal[agree]
    gap = (normal * (flat_points[one] - flat_points[two])).sum(-1)
    reach, behind = (start * (end / start) ** progress for start, end in (settings.reach, settings.reach_behind))
    limit = torch.where(gap > 0, reach, behind)
    weight = (1 / settings.agreement_length**2) / (1 + (gap / (0.5 * limit)) ** 2) * (gap.abs() < limit)
    lift_one = (normal * flat_rays[one]).sum(-1) * flat_depth[one]
    lift_two = (normal * flat_rays[two]).sum(-1) * flat_depth[two]
    keep = weight > 0
    return _Pairs(one[keep], two[keep], lift_one[keep], lift_two[keep], gap[keep], weight[keep])


def _conjugate_gradients(
    system: _System, right_side: Float[Tensor, "V S S"], iterations: int, tolerance: float = 1e-3
) -> Float[Tensor, "V S S"]:
    """Jacobi-preconditioned conjugate gradients from zero, until the residual falls by `tolerance`."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(2).sum()  # rows first: the same order of additions on any number of threads

    x, residual = torch.zeros_like(right_side), right_side
    z = residual / system.preconditioner
    direction = z
    power = dot(residual, z)
    goal = power * tolerance**2
    for _ in range(iterations):
        image = system.times(direction)
        length = power / dot(direction, image).clamp_min(1e-30)
        x = x + length * direction
        residual = residual - length * image
        z = residual / system.preconditioner
        previous, power = power, dot(residual, z)
        if power <= goal:
            break
        direction = z + power / previous * direction
    return x
