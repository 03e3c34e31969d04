"""Wall thickness on a voxel grid: thickening thin walls and hollowing thick bodies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.volume import occupancy
from kiss3d_cli.export.solid import as_manifold, as_mesh, with_holes
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.mesh import Mesh

_FINE, _COARSE = 320, 96
"""Cells along the longest side, at most and at least."""
_PER_WALL = 4
"""Cells across a wall, where the grid may be so fine."""
_BLUR = 6
"""Cells beyond a level at which a field is still to be exact: those that smoothing mixes into it."""
_POINTS_PER_CELL, _MOST_POINTS = 4, 3_000_000
_MARGIN = 0.06
"""Share of the longest side around the mesh."""
HOLE = 2.0
"""Millimetres: the radius of a hole through which resin or powder drains; less clogs."""


@dataclass(frozen=True)
class _Grid:
    """
    Attributes:
        solid: [x, y, z], where the mesh is; a cell at least around it is empty.
        low, step: the corner of the first cell, and a cell's side, in millimetres.
    """

    solid: Bool[np.ndarray, "X Y Z"]
    low: Float[np.ndarray, " 3"]
    step: float

    @staticmethod
    def of(mesh: Mesh, wall: float) -> _Grid:
        vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
        low, high = vertices.min(0), vertices.max(0)
        side = float((high - low).max()) * (1 + 2 * _MARGIN) + 2 * wall
        resolution = int(np.clip(np.ceil(_PER_WALL * side / wall), _COARSE, _FINE))
        corner, step = (low + high) / 2 - side / 2, side / resolution
        # the box of the mesh alone: of a flat one, the cube around it is nearly empty
        room = 2 * wall + _MARGIN * float((high - low).min())
        first = np.clip(np.floor((low - room - corner) / step), 0, None).astype(int)
        last = np.ceil((high + room - corner) / step).astype(int)
        box = tuple(slice(begin, end) for begin, end in zip(first, last, strict=True))
        return _Grid(occupancy(vertices, faces, corner, side, resolution)[box].copy(), corner + first * step, step)

    def surface_cells(self, mesh: Mesh) -> Bool[np.ndarray, "X Y Z"]:
        """Cells through which the surface goes, by points strewn over it."""
        corners = mesh.vertices.numpy()[mesh.faces.numpy()]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        generator = np.random.default_rng(0)
        count = int(min(_MOST_POINTS, np.ceil(_POINTS_PER_CELL * areas.sum() / self.step**2)))
        u, v = np.sort(generator.random((2, count)), axis=0)
        weights = np.stack([u, v - u, 1 - v], 1)
        face = generator.choice(len(corners), count, p=areas / areas.sum())
        place = np.floor(((corners[face] * weights[..., None]).sum(1) - self.low) / self.step).astype(np.int64)
        found = np.zeros(self.solid.shape, bool)
        found[tuple(place.clip(0, np.array(found.shape) - 1).T)] = True
        return found

    def surface(self, field: Float[np.ndarray, "X Y Z"]) -> Mesh:
        """Where a field of the cells' middles is 0; closed, negative inside."""
        first = self.low + self.step / 2
        last = first + self.step * (np.array(field.shape) - 1)
        values = torch.from_numpy(field.astype(np.float32))
        found = isosurface(values, tuple(first.tolist()), tuple(last.tolist()))
        return Mesh(found.vertices.double(), found.faces)


def within(mask: Bool[np.ndarray, "X Y Z"], reach: float) -> Float32[np.ndarray, "X Y Z"]:
    """Cells from each cell of the mask to the nearest one outside it, exact up to `reach`; what is farther has more.

    Along one axis after the other, as squared distances have it (Saito and Toriwaki 1994). Walls are a few cells
    thick, and a transform without such a limit takes five times as long.
    """
    steps = math.ceil(reach)
    far = float((steps + 1) ** 2)
    squared = np.where(mask, np.float32(far), np.float32(0))
    for axis in range(3):
        before = np.moveaxis(squared, axis, 0)
        best = before.copy()
        for step in range(1, min(steps, len(before) - 1) + 1):
            np.minimum(best[step:], before[:-step] + step * step, out=best[step:])
            np.minimum(best[:-step], before[step:] + step * step, out=best[:-step])
        squared = np.moveaxis(best, 0, axis)
    return np.sqrt(squared)


def thickened(mesh: Mesh, wall: float) -> tuple[Mesh, bool]:
    """With balls of the wall's thickness along the middle of what is thinner, merged with the mesh.

    Thin is what no ball of that thickness inside the solid covers, corners and edges of thick parts left
    out.

    Args:
        mesh: closed, in millimetres.
        wall: millimetres that nothing may be thinner than.

    Returns:
        The mesh, and whether anything was thin.
    """
    grid = _Grid.of(mesh, wall)
    radius = wall / 2 / grid.step
    depth = within(grid.solid, radius + 2) - 0.5 * grid.solid
    core = depth >= radius
    # a corner of a thick cube is sqrt(3) radii away from the middle of the ball in it, and cells are right to one
    corner = math.sqrt(3) * (radius + 1.25)
    away = within(~core, corner + 1) > corner
    thin = grid.solid & away
    # a sheet that is thinner than a cell holds the middle of none
    sheets = grid.surface_cells(mesh) & away & ~ndimage.binary_dilation(grid.solid, np.ones((3, 3, 3), bool))
    if not (thin | sheets).any():
        return mesh, False
    ridge = thin & (depth >= ndimage.maximum_filter(depth, 3) - 0.3) | sheets
    if not ridge.any():
        return mesh, False
    field = within(~ridge, radius + _BLUR) - radius
    added = grid.surface(ndimage.gaussian_filter(field, 0.7))
    return as_mesh(as_manifold(mesh) + as_manifold(added)), True


def hollowed(mesh: Mesh, wall: float) -> Mesh:
    """Empty inside, with walls of that thickness and two holes in the bottom.

    Args:
        mesh: closed, in millimetres, on the bed.
        wall: millimetres.

    Raises:
        BadInput: no room is left inside.
    """
    grid = _Grid.of(mesh, wall)
    depth = within(grid.solid, wall / grid.step + _BLUR) * grid.step
    empty = depth - 0.25 * grid.step - wall  # samples lie anywhere in their cells
    smooth = ndimage.gaussian_filter(-empty, 1.0)
    if not (smooth < 0).any():
        raise BadInput(
            f"walls of {wall:g} mm leave no room inside",
            place="--hollow",
            hint="give a thinner --wall or more --height",
        )
    rooms, _ = ndimage.label(smooth < 0)
    room = rooms == 1 + int(np.argmax(np.bincount(rooms.reshape(-1))[1:]))
    kept = np.where(room | ~(smooth < 0), smooth, grid.step)  # small rooms would have no hole of their own
    inner = grid.surface(kept)
    body = as_manifold(mesh) - as_manifold(inner)
    places, roof, radius = _drains(grid, room, wall)
    return as_mesh(with_holes(body, places, radius, roof))


def _drains(
    grid: _Grid, room: Bool[np.ndarray, "X Y Z"], wall: float
) -> tuple[list[Float[np.ndarray, " 2"]], float, float]:
    """Where holes reach the room from below, how high they go, and their radius: two, as far apart as there is room."""
    level = np.where(room.any(2), room.argmax(2), 1 << 30)
    lowest = int(level.min())
    reach = level <= lowest + max(1, round(wall / grid.step))
    inside = ndimage.distance_transform_edt(np.pad(reach, 1))[1:-1, 1:-1] * grid.step
    radius = float(min(HOLE, max(grid.step, 0.9 * inside.max())))
    x, y = np.nonzero(inside >= min(radius, float(inside.max())))
    spots = grid.low[:2] + (np.stack([x, y], 1) + 0.5) * grid.step
    first = spots[np.lexsort((spots[:, 1], spots[:, 0]))[0]]
    second = spots[int(np.argmax(((spots - first) ** 2).sum(1)))]
    apart = float(np.linalg.norm(second - first)) >= 3 * radius
    roof = float(grid.low[2] + (lowest + max(1, round(wall / grid.step)) + 1.5) * grid.step)
    return [first, second] if apart else [first], roof, radius
