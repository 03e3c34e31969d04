"""What given pictures alone say of another camera's: their visual hull, coloured by the pictures that see it.

The hull is sampled along each ray (image-based visual hulls, Matusik et al. 2000), and each point is coloured as in
view-dependent texture mapping (Debevec et al. 1996): by the views that see it, the more the closer they look along
the asked ray.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, UInt8
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
    return hulls_views(rgba[None], given, asked)[0]


def hulls_views(rgba: Float[Tensor, "B V 4 S S"], given: Posed, asked: Posed) -> Float[Tensor, "B T 4 S S"]:
    """`hull_views` of several objects at once, which keeps a GPU busy.

    Args:
        rgba: colours on white and masks of B objects, in [0, 1].
        given, asked: the B V and B T cameras, those of an object one after another.
    """
    count, size = len(rgba), rgba.shape[-1]
    alpha = rgba[:, :, 3:]
    # colours without the white that the pixels along the outline are mixed with
    own = ((rgba[:, :, :3] - 1 + alpha) / alpha.clamp_min(0.25)).clamp(0, 1) * alpha
    cells = _cells(alpha, given)
    coarse = max(1, size // 2)  # what the given views see is asked with a margin, and need not be fine
    met, _ = _march(cells, alpha, given, given, coarse)
    axis = given.poses[:, 2]
    depth = -(torch.einsum("vpi,vi->vp", met, axis[:, :3]) + axis[:, 3:]).reshape(-1, 1, coarse, coarse)
    planes = torch.cat([own.flatten(0, 1), alpha.flatten(0, 1), functional.interpolate(depth, (size, size))], 1)
    points, cover = _march(cells, alpha, given, asked, size)
    color = _colored(points.unflatten(0, (count, -1)), planes, given, asked.centers.unflatten(0, (count, -1)))
    share = cover.reshape(count, -1, 1, size, size)
    return torch.cat([color.unflatten(-1, (size, size)) * share + 1 - share, share], 2)


def _shares(
    masks: Float[Tensor, "B V 1 S S"], given: Posed, points: Float[Tensor, "N 3"], owner: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """The least share that a view gives each point; beside a picture its border says, which may cut off an object.

    Args:
        owner: the object of each point.
    """
    count, views, size = len(masks), masks.shape[1], masks.shape[-1]
    if count == 1:
        where, away = given.project(points)
        found = functional.grid_sample(masks[0], where[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
    else:  # each point in its own object's views, with the same arithmetic
        matrix = given.matrix.unflatten(0, (count, views)).movedim(1, 0)[:, owner]
        across, down, away = torch.einsum("vnij,nj->ivn", matrix[..., :3], points) + matrix[..., 3].movedim(-1, 0)
        far = away.clamp_min(1e-6)
        x, y = (((value / far + 1) * size - 1).div(2).clamp(0, size - 1) for value in (across, down))
        left, top = x.long().clamp_max(size - 2), y.long().clamp_max(size - 2)
        first = ((owner * views + torch.arange(views, device=owner.device)[:, None]) * size + top) * size + left
        flat, right, low = masks.flatten(), x - left, y - top
        upper, lower = (flat[first + row] * (1 - right) + flat[first + row + 1] * right for row in (0, size))
        found = upper * (1 - low) + lower * low
    least: Tensor = (found * (away > 0)).amin(0)
    return least


def _cells(masks: Float[Tensor, "B V 1 S S"], given: Posed) -> UInt8[Tensor, "B C C C"]:
    """1 for cells that may hold a part of the hull, 2 for those that lie within it, else 0."""
    count, views = masks.shape[:2]
    line = ((torch.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3).to(masks)
    # half a cell's diagonal is less than three pixels
    flat = masks.flatten(0, 1)
    wide = functional.max_pool2d(flat, 5, 1, 2)
    narrow = -functional.max_pool2d(-flat, 5, 1, 2)
    where, away = given.project(points)
    shown = functional.grid_sample(wide, where[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
    shares = (shown * (away > 0)).unflatten(0, (count, views)).amin(1)
    found = (shares > 0.02).byte().flatten()
    some = found.nonzero()[:, 0]
    owner, place = some // len(points), some % len(points)
    found[some] += _shares(narrow.unflatten(0, (count, views)), given, points[place], owner) > 0.98
    return found.reshape(count, CELLS, CELLS, CELLS)


def _march(
    cells: UInt8[Tensor, "B C C C"], masks: Float[Tensor, "B V 1 S S"], given: Posed, asked: Posed, size: int
) -> tuple[Float[Tensor, "T P 3"], Float[Tensor, "T P"]]:
    """Where each pixel's ray first meets the hull or comes closest to it, and the share of the pixel that it covers.

    Args:
        asked: cameras of all objects, T in all.
    """
    count = len(cells)
    spots = cells.nonzero()
    middles = ((spots[:, 1:].to(masks) + 0.5) / CELLS * 2 - 1) * REACH
    origin, way = asked.centers[:, None], asked.rays(size)
    each = len(way) // count
    half = REACH / CELLS
    owner = spots[:, :1].expand(-1, 3)
    low, high = (
        middles.new_zeros(count, 3).scatter_reduce(0, owner, middles, kind, include_self=False) + move
        for kind, move in (("amin", -half), ("amax", half))
    )
    sides = (side.repeat_interleave(each, 0)[:, None] for side in (low, high))
    ends = torch.stack([(side - origin) / torch.where(way.abs() < 1e-9, 1e-9, way) for side in sides])
    near, far = ends.amin(0).amax(-1), ends.amax(0).amin(-1)
    # (T, P, SAMPLES) would be large: only the rays that come near a cell
    meets = ((far > near) & _near(asked, middles, spots[:, 0], each, size)).flatten().nonzero()[:, 0]
    body = meets // (each * size * size)
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
    kinds = cells.flatten()[((body[:, None] * CELLS + x) * CELLS + y) * CELLS + z]
    within = kinds == 2
    values = within.to(along)
    ray, place = ((kinds == 1) & (within.cumsum(1) == 0)).nonzero(as_tuple=True)  # behind the hull nothing is asked
    asks = start[ray] + toward[ray] * along[ray, place, None]
    values[ray, place] = _shares(masks, given, asks, body[ray])
    points = origin.expand_as(way).flatten(0, 1).clone()
    cover = near.new_zeros(near.numel())
    if len(meets):
        most, best = values.max(1)
        inside = values > SOLID
        solid = inside.any(1)
        first = torch.where(solid, inside.byte().argmax(1), best)[:, None]
        now, before = values.gather(1, first), values.gather(1, (first - 1).clamp_min(0))
        back = torch.where(solid[:, None], ((now - SOLID) / (now - before).clamp_min(1e-3)).clamp(0, 1), 0.0)
        points[meets] = start + toward * (along.gather(1, first) - back * step)
        cover[meets] = most
    return points.reshape(way.shape), cover.reshape(near.shape)


def _near(
    views: Posed, points: Float[Tensor, "N 3"], owner: Int[Tensor, " N"], each: int, size: int
) -> Bool[Tensor, "V P"]:
    """Pixels at most two from one that shows a point of its object, which has `each` of the views."""
    found = points.new_zeros(len(views.poses), size * size)
    if len(views.poses) == each:
        where, away = views.project(points)
        row_of = torch.arange(each, device=points.device)[:, None].expand_as(away)
    else:
        row_of = owner * each + torch.arange(each, device=points.device)[:, None]
        local = (views.matrix[row_of, :, :3] * points[:, None]).sum(-1) + views.matrix[row_of, :, 3]
        away = local[..., 2]
        where = local[..., :2] / away[..., None].clamp_min(1e-6)
    column, row = ((where + 1) * (size / 2)).long().clamp(0, size - 1).unbind(-1)
    found.view(-1).scatter_(0, (row_of * size * size + row * size + column).flatten(), (away > 0).to(found).flatten())
    wide: Bool[Tensor, "V P"] = functional.max_pool2d(found.reshape(-1, 1, size, size), 5, 1, 2).flatten(1) > 0
    return wide


def _colored(
    points: Float[Tensor, "B T P 3"], planes: Float[Tensor, "W 5 S S"], given: Posed, eyes: Float[Tensor, "B T 3"]
) -> Float[Tensor, "B T 3 P"]:
    """Each point's mean colour in the views that see it; in all of them if none does.

    Args:
        planes: colour times mask, mask, depth, of the given views of all objects.
        eyes: from where the points are looked at.
    """
    count, asked = points.shape[:2]
    views = len(planes) // count
    flat = points.flatten(1, 2)
    where, away = given.project(flat.repeat_interleave(views, 0) if count > 1 else flat[0])
    found = functional.grid_sample(planes, where[:, None], padding_mode="border", align_corners=False)[:, :, 0]
    found, away = found.unflatten(0, (count, views)), away.unflatten(0, (count, views))
    towards = functional.normalize(eyes[:, :, None] - points, dim=-1).flatten(1, 2)
    centers = given.centers.unflatten(0, (count, views))[:, :, None]
    like = (functional.normalize(centers - flat[:, None], dim=-1) * towards[:, None]).sum(-1)
    seen = away < found[:, :, 4] + BEHIND
    weight = torch.exp(SHARP * (like - 1)) * torch.where(seen, 1.0, UNSEEN) * (found[:, :, 3] + 1e-3)
    colors = found[:, :, :3] / found[:, :, 3:4].clamp_min(0.05)
    mixed = ((weight[:, :, None] * colors).sum(1) / weight.sum(1).clamp_min(1e-20)[:, None]).clamp(0, 1)
    return mixed.unflatten(-1, (asked, -1)).transpose(1, 2)
