"""Thickness of walls: thin ones made thicker, thick bodies made hollow. All on a grid of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
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
_MARGIN = 0.06
"""Share of the longest side around the mesh."""
HOLE = 2.0
"""Millimetres: the radius of a hole through which resin or powder drains; less clogs."""


@dataclass(frozen=True)
class _Grid:
    """
    Attributes:
        solid: [x, y, z], where the mesh is.
        low, step: the corner of the first cell, and a cell's side, in millimetres.
    """

    solid: Bool[np.ndarray, "R R R"]
    low: Float[np.ndarray, " 3"]
    step: float

    @staticmethod
    def of(mesh: Mesh, wall: float) -> _Grid:
        vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
        low, high = vertices.min(0), vertices.max(0)
        side = float((high - low).max()) * (1 + 2 * _MARGIN) + 2 * wall
        resolution = int(np.clip(np.ceil(_PER_WALL * side / wall), _COARSE, _FINE))
        corner = (low + high) / 2 - side / 2
        return _Grid(occupancy(vertices, faces, corner, side, resolution), corner, side / resolution)

    def surface(self, field: Float[np.ndarray, "R R R"]) -> Mesh:
        """Where a field of the cells' middles is 0; closed, negative inside."""
        first = self.low + self.step / 2
        last = first + self.step * (len(field) - 1)
        values = torch.from_numpy(field.astype(np.float32))
        found = isosurface(values, tuple(first.tolist()), tuple(last.tolist()))
        return Mesh(found.vertices.double(), found.faces)


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
    depth = ndimage.distance_transform_edt(grid.solid).astype(np.float32) - 0.5 * grid.solid
    core = depth >= radius
    reached = ndimage.distance_transform_edt(~core) if core.any() else np.full(grid.solid.shape, np.inf)
    # a corner of a thick cube is (sqrt(3) - 1) radii away from the ball in it
    thin = grid.solid & (reached > 1.9 * radius)
    ridge = thin & (depth >= ndimage.maximum_filter(depth, 3) - 0.3)
    if not ridge.any():
        return mesh, False
    field = ndimage.distance_transform_edt(~ridge).astype(np.float32) - radius
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
    depth = ndimage.distance_transform_edt(grid.solid).astype(np.float32) * grid.step
    empty = depth - 0.5 * grid.step - wall
    smooth = ndimage.gaussian_filter(-empty, 1.0)
    if not (smooth < 0).any():
        raise BadInput(
            f"walls of {wall:g} mm leave no room inside",
            place="--hollow",
            hint="give a thinner --wall or more --height",
        )
    rooms, count = ndimage.label(smooth < 0)
    sizes = ndimage.sum_labels(np.ones_like(rooms), rooms, np.arange(1, count + 1))
    room = rooms == 1 + int(np.argmax(sizes))
    kept = np.where(room | ~(smooth < 0), smooth, grid.step)  # small rooms would have no hole of their own
    inner = grid.surface(kept)
    body = as_manifold(mesh) - as_manifold(inner)
    places, roof, radius = _drains(grid, room, wall)
    return as_mesh(with_holes(body, places, radius, roof))


def _drains(
    grid: _Grid, room: Bool[np.ndarray, "R R R"], wall: float
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
