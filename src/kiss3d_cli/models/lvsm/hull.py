"""What given pictures alone say of another camera's: their visual hull, coloured by the pictures that see it.

The hull is sampled along each ray (image-based visual hulls, Matusik et al. 2000), and each point is coloured as in
view-dependent texture mapping (Debevec et al. 1996): by the views that see it, the more the closer they look along
the asked ray.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from kiss3d_cli.models.lvsm.rays import Posed

REACH = 1.1
"""Half the side of the volume that objects lie in, in world units."""
CELLS = 40
"""A side, of the volume of cells that may hold the hull."""
SAMPLES = 64
"""Of a ray, through the box about these cells."""
SOLID = 0.5
"""Share of a pixel from which on it is the object's."""
BEHIND = 0.08
"""World units by which a point may lie behind what a view sees at its pixel, and is seen still."""
SHARP = 12.0
"""How fast a view's weight falls with the angle between its ray and the asked one: exp(SHARP (cos - 1))."""
UNSEEN = 1e-4
"""Weight of a view that does not see a point."""


def hull_views(rgba: Float[Tensor, "V 4 S S"], given: Posed, asked: Posed) -> Float[Tensor, "T 4 S S"]:
    """Colours on white and masks, in [0, 1], of the given views' hull as other cameras see it.

    Args:
        rgba: colours on white and masks of one object, in [0, 1].
    """
    size = rgba.shape[-1]
    alpha = rgba[:, 3:]
    # colours without the white that the pixels along the outline are mixed with
    own = ((rgba[:, :3] - 1 + alpha) / alpha.clamp_min(0.25)).clamp(0, 1) * alpha
    cells = _cells(alpha, given)
    coarse = max(1, size // 2)  # what the given views see is asked with a margin, and need not be fine
    met, _ = _march(cells, alpha, given, given, coarse)
    axis = given.poses[:, 2]
    depth = -(torch.einsum("vpi,vi->vp", met, axis[:, :3]) + axis[:, 3:]).reshape(-1, 1, coarse, coarse)
    planes = torch.cat([own, alpha, functional.interpolate(depth, (size, size))], 1)
    points, cover = _march(cells, alpha, given, asked, size)
    drawn = []
    for where, shares, eye in zip(points, cover, asked.centers, strict=True):
        share = shares.reshape(1, size, size)
        color = _colored(where, planes, given, eye).T.reshape(3, size, size)
        drawn.append(torch.cat([color * share + 1 - share, share]))
    return torch.stack(drawn)


def _shares(masks: Float[Tensor, "V 1 S S"], given: Posed, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """The least share that a view gives each point; beside a picture its border says, which may cut off an object."""
    where, away = given.project(points)
    found = functional.grid_sample(masks, where[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
    least: Tensor = (found * (away > 0)).amin(0)
    return least


def _cells(masks: Float[Tensor, "V 1 S S"], given: Posed) -> UInt8[Tensor, "C C C"]:
    """1 for cells that may hold a part of the hull, 2 for those that lie within it, else 0."""
    line = ((torch.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3).to(masks)
    # half a cell's diagonal is less than three pixels
    wide, narrow = functional.max_pool2d(masks, 5, 1, 2), -functional.max_pool2d(-masks, 5, 1, 2)
    found = (_shares(wide, given, points) > 0.02).byte()
    some = found.nonzero()[:, 0]
    found[some] += _shares(narrow, given, points[some]) > 0.98
    return found.reshape(CELLS, CELLS, CELLS)


def _march(
    cells: UInt8[Tensor, "C C C"], masks: Float[Tensor, "V 1 S S"], given: Posed, asked: Posed, size: int
) -> tuple[Float[Tensor, "T P 3"], Float[Tensor, "T P"]]:
    """Where each pixel's ray first meets the hull or comes closest to it, and the share of the pixel that it covers."""
    middles = ((cells.nonzero().to(masks) + 0.5) / CELLS * 2 - 1) * REACH
    origin, way = asked.centers[:, None], asked.rays(size)
    if not len(middles):
        return origin.expand_as(way), way.new_zeros(way.shape[:2])
    half = REACH / CELLS
    low, high = middles.amin(0) - half, middles.amax(0) + half
    ends = torch.stack([(side - origin) / torch.where(way.abs() < 1e-9, 1e-9, way) for side in (low, high)])
    near, far = ends.amin(0).amax(-1), ends.amax(0).amin(-1)
    # (T, P, SAMPLES) would be large: only the rays that come near a cell
    meets = ((far > near) & _near(asked, middles, size)).flatten().nonzero()[:, 0]
    start, toward = origin.expand_as(way).flatten(0, 1)[meets], way.flatten(0, 1)[meets]
    share = (torch.arange(SAMPLES, device=way.device, dtype=way.dtype) + 0.5) / SAMPLES
    step = (far - near).flatten()[meets, None] / SAMPLES
    along = near.flatten()[meets, None] + step * SAMPLES * share
    scale = CELLS / (2 * REACH)
    x, y, z = (
        torch.addcmul((start[:, axis, None] + REACH) * scale, toward[:, axis, None] * scale, along)
        .long()
        .clamp_(0, CELLS - 1)
        for axis in range(3)
    )
    kinds = cells.flatten()[(x * CELLS + y) * CELLS + z]
    within = kinds == 2
    values = within.to(along)
    ray, place = ((kinds == 1) & (within.cumsum(1) == 0)).nonzero(as_tuple=True)  # behind the hull nothing is asked
    values[ray, place] = _shares(masks, given, start[ray] + toward[ray] * along[ray, place, None])
    most, best = values.max(1)
    inside = values > SOLID
    solid = inside.any(1)
    first = torch.where(solid, inside.byte().argmax(1), best)[:, None]
    now, before = values.gather(1, first), values.gather(1, (first - 1).clamp_min(0))
    back = torch.where(solid[:, None], ((now - SOLID) / (now - before).clamp_min(1e-3)).clamp(0, 1), 0.0)
    depth = along.gather(1, first) - back * step
    points = origin.expand_as(way).flatten(0, 1).clone()
    points[meets] = start + toward * depth
    cover = near.new_zeros(near.numel())
    cover[meets] = most
    return points.reshape(way.shape), cover.reshape(near.shape)


def _near(views: Posed, points: Float[Tensor, "N 3"], size: int) -> Bool[Tensor, "V P"]:
    """Pixels at most two from one that shows a point."""
    where, away = views.project(points)
    column, row = ((where + 1) * (size / 2)).long().clamp(0, size - 1).unbind(-1)
    found = points.new_zeros(len(away), size * size)
    found.scatter_(1, row * size + column, (away > 0).to(found))
    wide: Bool[Tensor, "V P"] = functional.max_pool2d(found.reshape(-1, 1, size, size), 5, 1, 2).flatten(1) > 0
    return wide


def _colored(
    points: Float[Tensor, "N 3"], planes: Float[Tensor, "V 5 S S"], given: Posed, eye: Float[Tensor, " 3"]
) -> Float[Tensor, "N 3"]:
    """Each point's mean colour in the views that see it; in all of them if none does.

    Args:
        planes: colour times mask, mask, depth.
    """
    where, away = given.project(points)
    found = functional.grid_sample(planes, where[:, None], padding_mode="border", align_corners=False)[:, :, 0]
    towards = functional.normalize(eye - points, dim=-1)
    others = functional.normalize(given.centers[:, None] - points, dim=-1)
    like = (others * towards).sum(-1)
    seen = away < found[:, 4] + BEHIND
    weight = torch.exp(SHARP * (like - 1)) * torch.where(seen, 1.0, UNSEEN) * (found[:, 3] + 1e-3)
    colors = found[:, :3] / found[:, 3:4].clamp_min(0.05)
    mixed: Tensor = ((weight[:, None] * colors).sum(0) / weight.sum(0).clamp_min(1e-20)).clamp(0, 1)
    return mixed.T
