"""Depth maps from the normal maps of several views, all at once.

A normal map fixes a depth map up to one factor for each piece without a jump. The pieces are found as in Cao et al.
2022 ("Bilateral normal integration", perspective form): every pixel relates to its left or right, upper or lower
neighbour, whichever continues its surface. The factors come from the other views: no surface lies in front of the
visual hull, every piece touches it somewhere, and two views that see the same place agree on where it is.

All terms form one sparse least-squares problem in u = log(depth), solved by iteratively reweighted conjugate
gradients from coarse images to fine ones. Lengths are world units, so weights mean the same at every size.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.depth.conjugate_gradients import conjugate_gradients
from kiss3d_cli.geometry.depth.maps import DepthMaps, Level, refined
from kiss3d_cli.geometry.depth.terms import System, find_pairs, gap_walls, hull_walls, slope_terms
from kiss3d_cli.geometry.extract.hull import HullField
from kiss3d_cli.geometry.settings import IntegrationSettings


def integrate_normals(
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    nearest: Float[Tensor, "V S S"],
    farthest: Float[Tensor, "V S S"],
    hull: HullField,
    start: Float[Tensor, "V S S"] | None = None,
    settings: IntegrationSettings | None = None,
) -> DepthMaps:
    """The depth maps that fit all normal maps, the visual hull and each other best.

    Args:
        normals: camera-space unit normals (x right, y up, z to the viewer).
        mask: where the normals count.
        cameras: one for each view.
        nearest, farthest: depth of the visual hull's front and back, 0 where a pixel misses it.
        hull: the same as a field, gaps included.
        start: depth to begin from and to be drawn to, 0 where unknown; the hull if None.
        settings: weights and sizes.
    """
    settings = settings or IntegrationSettings()
    start = nearest if start is None else torch.where(start > 0, torch.maximum(start, nearest), nearest)
    total = sum(settings.rounds)
    done = 0
    maps: DepthMaps | None = None
    for size, rounds in zip(settings.sizes, settings.rounds, strict=True):
        level = Level.at(normals, mask, cameras, nearest, farthest, start, size)
        log_depth = level.start if maps is None else refined(maps, level)
        for _ in range(rounds):
            progress = done / max(total - 1, 1)
            log_depth = _solve(level, log_depth, hull, settings, progress)
            done += 1
        depth = torch.where(level.mask, log_depth.exp(), 0)
        maps = DepthMaps(depth, level.normals, level.mask, cameras)
    assert maps is not None
    return maps


def _solve(
    level: Level,
    u: Float[Tensor, "V S S"],
    hull: HullField,
    settings: IntegrationSettings,
    progress: float,
) -> Float[Tensor, "V S S"]:
    """One round: weights from the present log-depth `u`, then the least-squares correction."""
    first = progress == 0
    inside, depth = level.mask.to(u), u.exp()
    slopes = slope_terms(level, u, settings.sharpness, first)
    walls = hull_walls(level, u)
    if progress >= settings.gaps_from:
        walls = gap_walls(level, u, hull, walls)
    # The energy is a sum over pixels of (slope error)^2 + (distance / length)^2.
    cosine = level.facing / level.rays.norm(dim=-1)
    bound = ((walls.distance > 0) | first).to(u) * (depth * cosine / settings.hull_length) ** 2 * inside
    bound = bound * settings.hull_slack / walls.distance.clamp_min(settings.hull_slack)
    pull = settings.pull * depth / (u - level.start).abs().clamp_min(level.step) * inside
    reach, behind = (start * (end / start) ** progress for start, end in (settings.reach, settings.reach_behind))
    pairs = find_pairs(level, u, settings.agreement_length, reach, behind)
    right_side = slopes.residual + bound * (walls.log_depth - u) + pull * (level.start - u)
    system = System(slopes.right, slopes.down, bound + pull + (1 - inside), pairs)
    correction = conjugate_gradients(
        system.times, pairs.right_side(right_side * inside), system.diagonal(), iterations=settings.iterations
    )
    return u + correction
