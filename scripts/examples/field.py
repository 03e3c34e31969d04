"""Rays against a shape: a sampled grid for the long way, the exact distance for the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .sdf import Distances, Paints, Points, Shape

CHUNK = 1 << 14
HIT = 1e-4
"""A ray stops this far from the surface: a fortieth of a 512-pixel bundle's pixel."""
CREEP = 1e-3
"""Grazing rays move at least this far; one that gets below the surface so is moved back."""
ROUNDS = 12


@dataclass(frozen=True)
class Field:
    """A shape in the box [-reach, reach]^3 and its distances on a grid there.

    Attributes:
        grid: (1, 1, R, R, R), indexed z, y, x; corners on the box's corners.
    """

    shape: Shape
    reach: float
    grid: Float[Tensor, "1 1 R R R"]

    @property
    def cell(self) -> float:
        return 2 * self.reach / (self.grid.shape[-1] - 1)

    def rough(self, points: Points) -> Distances:
        """Distances between the grid's, within a cell of the true ones; a lower bound outside the box."""
        where = (points / self.reach).T[None, None, None]
        inside = F.grid_sample(self.grid, where, align_corners=True, padding_mode="border").reshape(-1)
        beyond = (points.abs() - self.reach).clamp_min(0)
        return ((beyond * beyond).sum(0) + inside.clamp_min(0) ** 2).sqrt() + inside.clamp_max(0)


@dataclass(frozen=True)
class Hits:
    """Where K of the rays meet the surface; neighbours in space are neighbours in the order.

    Attributes:
        index: which ray.
        points: positions, normals: unit, outwards.
    """

    index: Int[Tensor, " K"]
    points: Points
    normals: Points
    paint: Paints


def sampled(shape: Shape, reach: float = 1.0, resolution: int = 128) -> Field:
    """The shape's field. Blocks of the grid far from the surface are sampled from every second point."""
    coarse = _grid(shape, torch.linspace(-reach, reach, resolution // 2), None)
    axis = torch.linspace(-reach, reach, resolution)
    fill = F.interpolate(coarse[None, None], size=(resolution,) * 3, mode="trilinear", align_corners=True)[0, 0]
    return Field(shape, reach, _grid(shape, axis, fill)[None, None])


def resampled(field: Field, resolution: int) -> Float[Tensor, "R R R"]:
    """Distances on a finer grid of the same box, indexed z, y, x; exact near the surface."""
    axis = torch.linspace(-field.reach, field.reach, resolution)
    fill = F.interpolate(field.grid, size=(resolution,) * 3, mode="trilinear", align_corners=True)[0, 0]
    return _grid(field.shape, axis, fill)


def trace(field: Field, origin: Tensor, directions: Points) -> tuple[Int[Tensor, " K"], Distances]:
    """Indices (K,) of the rays that hit, in no order, and their distances (K,) from the origin."""
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    low, high = (-field.reach - origin[:, None]) * inverse, (field.reach - origin[:, None]) * inverse
    leave = torch.maximum(low, high).amin(0)
    t = torch.minimum(low, high).amax(0).clamp_min(0)
    alive = torch.nonzero(t < leave).flatten()
    t, leave = t[alive], leave[alive]
    margin = 3 * field.cell
    hits, depths = [], []
    for _ in range(ROUNDS):
        t = _approach(field, origin, directions[:, alive], t, leave)
        inside = t < leave
        alive, t, leave = alive[inside], t[inside], leave[inside]
        if not len(alive):
            break
        hit = torch.zeros_like(alive, dtype=torch.bool)
        for part, local in compact(field.shape, origin[:, None] + directions[:, alive] * t, margin):
            t[part], hit[part] = _close_in(local, origin, directions[:, alive[part]], t[part], margin)
        hits.append(alive[hit])
        depths.append(t[hit])
        alive, t, leave = alive[~hit], t[~hit], leave[~hit]
    if len(alive):  # grazing rays that creep along the surface
        close = field.shape.distance(origin[:, None] + directions[:, alive] * t) < 5 * HIT
        hits.append(alive[close])
        depths.append(t[close])
    return torch.cat(hits), torch.cat(depths)


def _approach(field: Field, origin: Tensor, directions: Points, t: Distances, leave: Distances) -> Distances:
    """Steps on the grid until every ray is next to the surface or out of the box."""
    t = t.clone()
    going = torch.arange(len(t))
    for _ in range(200):
        d = field.rough(origin[:, None] + directions[:, going] * t[going])
        step = torch.minimum(d - field.cell, 0.7 * d)  # never more than the true distance
        t[going] += step.clamp_min(0)
        going = going[(step > 0.25 * field.cell) & (t[going] < leave[going])]
        if not len(going):
            break
    return t


def _close_in(
    local: Shape, origin: Tensor, directions: Points, t: Distances, margin: float
) -> tuple[Distances, Tensor]:
    """Exact steps, lengthened by how slowly the last one came closer (secants).

    A ray without a hit within `margin` goes back to the grid.
    """
    start, t = t, t.clone()
    hit = torch.zeros_like(t, dtype=torch.bool)
    going = torch.arange(len(t))
    before, step = None, t
    for _ in range(10):
        d = local.distance(origin[:, None] + directions[:, going] * t[going])
        closing = torch.ones_like(d) if before is None else (before - d) / step
        factor = torch.where(closing > 0.1, 1 / closing.clamp(0.25, 1), 1.0)
        found = d.abs() < HIT
        step = torch.where(found, d, torch.where(d < 0, d, (d * factor).clamp_min(CREEP)))
        t[going] += step
        hit[going[found]] = True
        kept = ~found & (t[going] - start[going] < margin)
        going, before, step = going[kept], d[kept], step[kept]
        if not len(going):
            break
    return t, hit


def cast(field: Field, origin: Tensor, directions: Points) -> Hits:
    """First hits of the rays, with normals (central differences of the distance) and paint."""
    index, depth = trace(field, origin, directions)
    points = origin[:, None] + directions[:, index] * depth
    normals, paint = surface(field.shape, points)
    return Hits(index, points, normals, paint)


def surface(shape: Shape, points: Points) -> tuple[Points, Paints]:
    """Unit normals and paint at points on the surface."""
    normals, paint = torch.empty_like(points), points.new_empty(4, points.shape[1])
    for part, local in compact(shape, points, 0.01):
        normals[:, part] = gradient(local, points[:, part])
        paint[:, part] = local.paint(points[:, part])
    return normals, paint


def project(shape: Shape, points: Points, rounds: int = 3) -> Points:
    """Points near the surface moved onto it along the distance's gradient."""
    points = points.clone()
    for part, local in compact(shape, points, 0.05):
        p = points[:, part]
        for _ in range(rounds):
            p = p - gradient(local, p) * local.distance(p)
        points[:, part] = p
    return points


def gradient(shape: Shape, points: Points, step: float = 5e-4) -> Points:
    """The distance's gradient, to unit length: differences along the diagonals of a cube, which sum to it."""
    total = torch.zeros_like(points)
    for corner in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        way = points.new_tensor(corner)[:, None]
        total = total + way * shape.distance(points + step * way)
    return F.normalize(total, dim=0)


def extent(shape: Shape, reach: float = 1.4) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """The lowest and highest coordinates of the surface: the best points of a grid, then of ever finer ones around."""
    field = sampled(shape, reach, 48)
    axis = torch.linspace(-reach, reach, 48)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    close = field.grid[0, 0].abs() < field.cell
    points = _landed(shape, torch.stack([x[close], y[close], z[close]]))
    bounds = []
    for sign in (-1, 1):
        for row in range(3):
            best = points[:, (sign * points[row]).argmax()]
            width = field.cell
            for _ in range(3):
                steps = torch.linspace(-width, width, 13)
                local = torch.cartesian_prod(steps, steps, steps).T + best[:, None]
                around = local[:, shape.distance(local).abs() < width]
                around = torch.cat([_landed(shape, around), best[:, None]], 1)
                best = around[:, (sign * around[row]).argmax()]
                width /= 5
            bounds.append(best[row])
    return torch.stack(bounds[:3]), torch.stack(bounds[3:])


def _landed(shape: Shape, points: Points) -> Points:
    """Those of the points that a projection brings to the surface: a rough distance can lead astray."""
    moved = project(shape, points)
    return moved[:, shape.distance(moved).abs() < 10 * HIT]


def compact(shape: Shape, points: Points, margin: float) -> Iterator[tuple[Int[Tensor, " M"], Shape]]:
    """Parts of the points that lie close together, each with the shape near it (valid `margin` around the points)."""
    yield from _halved(shape, points, torch.argsort(_morton(points), stable=True), margin)


def _halved(shape: Shape, points: Points, part: Tensor, margin: float) -> Iterator[tuple[Int[Tensor, " M"], Shape]]:
    local = _near_points(shape, points[:, part], margin) if len(part) else shape
    if len(part) <= CHUNK:
        yield part, local
        return
    for half in part.tensor_split(2):
        yield from _halved(local, points, half, margin)


def _near_points(shape: Shape, points: Points, margin: float) -> Shape:
    low, high = points.amin(1), points.amax(1)
    return shape.focus(((low + high) / 2)[:, None], float((high - low).norm()) / 2 + margin)[0]


def _morton(points: Points) -> Int[Tensor, " N"]:
    """Interleaved bits of the coordinates (64 steps each over [-1.6, 1.6])."""
    cells = ((points / 3.2 + 0.5) * 64).long().clamp(0, 63)
    key = torch.zeros_like(cells[0])
    for bit in range(6):
        for row in range(3):
            key |= ((cells[row] >> bit) & 1) << (3 * bit + row)
    return key


def _grid(shape: Shape, axis: Float[Tensor, " R"], fill: Float[Tensor, "R R R"] | None) -> Float[Tensor, "R R R"]:
    """Distances at the points of a grid; with a `fill`, only where that is small, the fill elsewhere."""
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    if fill is None:
        out, wanted = torch.empty_like(x), torch.ones_like(x, dtype=torch.bool)
    else:
        out, wanted = fill.clone(), fill.abs() < 6 * float(axis[1] - axis[0])
    points = torch.stack([x[wanted], y[wanted], z[wanted]])
    values = torch.empty_like(points[0])
    for part, local in compact(shape, points, 1e-3):
        values[part] = local.distance(points[:, part])
    out[wanted] = values
    return out
