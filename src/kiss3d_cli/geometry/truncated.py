"""Truncated signed distances of meshes that need not be closed, oriented or free of overlaps.

Inside is what no direction sees from outside: depth maps from 26 directions (the faces, edges and corners of a cube)
decide. Distances are exact to the triangles that are seen. A surface that is seen from both sides, a sheet of cloth or
a wall of one layer, encloses nothing; it is given the least thickness that the grid can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.extract.hull import HullField, check_masks, silhouette_distance
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.geometry.rasterize import rasterize

BOUND = 1.05
"""Half the side of the grid, in world units: the object's place (docs/conventions.md)."""
_FAR = 200.0
"""Distance of the cameras: so far away that their rays are parallel to within half a degree."""
_REACH = 1.87
"""Half of what a depth map shows; a cube of half side `BOUND` has its corners at 1.82."""
_SHEET = 0.6
"""Half the thickness of a sheet, in cells: more than half a cell, or the samples may miss it."""
_SAMPLES = 30_000
_NEAREST = 4
_AROUND = 32
_MOST = 0.75
"""Share of the samples about one that must seem to be of a sheet before it is one."""
_PIXELS = 128
"""Least pixels a side of a depth map."""


@dataclass(frozen=True)
class Grid:
    """R^3 samples at the middles of the cells of [-bound, bound]^3; axis 0 is x, 1 is y, 2 is z."""

    resolution: int
    bound: float = BOUND

    @property
    def cell(self) -> float:
        return 2 * self.bound / self.resolution

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last sample of an axis."""
        return -self.bound + self.cell / 2, self.bound - self.cell / 2

    def points(self) -> Float[Tensor, "R R R 3"]:
        line = torch.linspace(*self.ends, self.resolution)
        return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)


@dataclass(frozen=True)
class OutsideView:
    """What 26 directions see of a mesh.

    Attributes:
        depth: (26, S, S) along each camera's axis, infinite where it sees nothing.
        rotation: (26, 3, 3) world to camera.
    """

    depth: Float[Tensor, "D S S"]
    rotation: Float[Tensor, "D 3 3"]

    @staticmethod
    def of(mesh: Mesh, size: int) -> OutsideView:
        """
        Args:
            mesh: within [-1.05, 1.05]^3.
            size: pixels a side of each depth map.
        """
        steps = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) != (0, 0, 0)]
        way = torch.tensor(steps, dtype=torch.float64)
        azimuth = torch.rad2deg(torch.atan2(way[:, 0], way[:, 2])).tolist()
        elevation = torch.rad2deg(torch.atan2(way[:, 1], way[:, [0, 2]].norm(dim=-1))).tolist()
        fov = 2 * float(np.degrees(np.arctan(_REACH / _FAR)))
        cameras = orbit_cameras(azimuth, elevation, _FAR, fov)
        maps = [rasterize(cameras[[view]].clip(mesh.vertices), mesh.faces, (size, size)).depth for view in range(26)]
        depth = torch.cat(maps)
        return OutsideView(torch.where(depth > 0, depth, torch.inf), cameras.rotation)

    def sees(self, points: Float[Tensor, "N 3"]) -> Bool[Tensor, " N"]:
        """Whether at least one direction sees a point.

        Between four pixels of one surface the depth is interpolated, which is exact for a plane; across a jump the
        nearest counts, so that what is behind an edge is not seen through it.
        """
        side = self.depth.shape[1]
        left = torch.arange(len(points))
        jump, focal = 8 * 2 * _REACH / side, _FAR / _REACH
        for depth, rotation in zip(self.depth, self.rotation, strict=True):
            local = points[left] @ rotation.T
            away = _FAR - local[:, 2]
            column = ((focal * local[:, 0] / away + 1) * side / 2 - 0.5).clamp(0, side - 1.001)
            row = ((1 - focal * local[:, 1] / away) * side / 2 - 0.5).clamp(0, side - 1.001)
            first, top = column.long(), row.long()
            x, y = column - first, row - top
            corner = top * side + first
            four = torch.stack([depth.flatten()[corner + i * side + j] for i in (0, 1) for j in (0, 1)])
            weights = torch.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])
            nearest, farthest = four.amin(0), four.amax(0)
            plane = (weights * torch.where(four.isfinite(), four, 0)).sum(0)
            surface = torch.where(farthest - nearest < jump, plane, nearest)
            left = left[away >= torch.where(nearest.isinf(), nearest, surface)]  # few are left after some directions
        seen = torch.ones(len(points), dtype=torch.bool)
        seen[left] = False
        return seen


def truncated_distance(mesh: Mesh, grid: Grid, truncation: float, *, seed: int = 0) -> Float[Tensor, "R R R"]:
    """Signed distance over `truncation`, negative inside, cut off at -1 and 1.

    Args:
        mesh: within the grid; any soup of triangles.
        grid: where to sample.
        truncation: the largest distance that is told, in world units.
        seed: of the surface samples that find the nearest triangles.

    Raises:
        BadInput: the mesh has no surface, or none that can be seen from outside.
    """
    area = face_normals(mesh.vertices, mesh.faces).norm(dim=-1) if len(mesh.faces) else torch.zeros(0)
    if not len(area) or not bool(mesh.vertices.isfinite().all()) or float(area.max()) <= 0:
        raise BadInput("the mesh has no surface to measure distances to")
    view = OutsideView.of(mesh, max(_PIXELS, 4 * grid.resolution))
    face = torch.multinomial(area, _SAMPLES, replacement=True, generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    share = -torch.rand(_SAMPLES, 3, generator=generator).clamp_min(1e-9).log()
    share = share / share.sum(-1, keepdim=True)
    corners = mesh.vertices[mesh.faces[face]]
    samples = (corners * share[..., None]).sum(1)
    normals = torch.nn.functional.normalize(face_normals(mesh.vertices, mesh.faces)[face], dim=-1)
    step = grid.cell / 2
    front, back = view.sees(samples + step * normals), view.sees(samples - step * normals)
    shown = front | back
    if not bool(shown.any()):
        raise BadInput("no direction sees the mesh from outside")
    points = grid.points().reshape(-1, 3)
    inside = ~view.sees(points)
    distance = _distance(points, samples[shown], corners[shown], 1.5 * truncation)
    field = torch.where(inside, -distance, distance)
    sheet = front & back
    # a point next to a solid's edge may seem to be seen from within: a sheet has others about it
    near = cKDTree(samples.numpy()).query(samples[sheet].numpy(), k=_AROUND)[1]
    sheet[sheet.clone()] = sheet[torch.from_numpy(np.asarray(near))].float().mean(1) > _MOST
    if bool(sheet.any()):
        thick = _distance(points, samples[sheet], corners[sheet], 1.5 * truncation) - _SHEET * grid.cell
        field = torch.minimum(field, thick)
    return (field / truncation).clamp(-1, 1).reshape((grid.resolution,) * 3)


def _distance(
    points: Float[Tensor, "N 3"], samples: Float[Tensor, "S 3"], corners: Float[Tensor, "S 3 3"], most: float
) -> Float[Tensor, " N"]:
    """Distance to the nearest of the triangles that the nearest samples are on; beyond `most` it is `most`."""
    count = min(_NEAREST, len(samples))
    _, found = cKDTree(samples.numpy()).query(points.numpy(), k=count, distance_upper_bound=most)
    index = torch.from_numpy(np.asarray(found).reshape(len(points), count))
    near = index[:, 0] < len(samples)
    result = torch.full((len(points),), float(most))
    own = index[near]
    own = torch.where(own < len(samples), own, own[:, :1])
    flat = points[near].repeat_interleave(count, 0)
    distance = triangle_distance(flat, corners[own.reshape(-1)])
    result[near] = distance.reshape(-1, count).amin(1).clamp_max(most)
    return result


def triangle_distance(points: Float[Tensor, "N 3"], triangles: Float[Tensor, "N 3 3"]) -> Float[Tensor, " N"]:
    """Distance of each point to its own triangle: to the plane where it stands over the triangle, else to an edge."""
    a, b, c = triangles.unbind(1)
    normal = torch.linalg.cross(b - a, c - a, dim=-1)
    length = normal.norm(dim=-1).clamp_min(1e-20)
    over = torch.ones(len(points), dtype=torch.bool)
    nearest = torch.full((len(points),), torch.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, way = end - start, points - start
        over &= (torch.linalg.cross(edge, way, dim=-1) * normal).sum(-1) >= 0
        share = ((way * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-20)).clamp(0, 1)
        nearest = torch.minimum(nearest, (way - share[:, None] * edge).norm(dim=-1))
    plane = ((points - a) * normal).sum(-1).abs() / length
    return torch.where(over & (length > 1e-12), plane, nearest)


def hull_distances(
    masks: Float[Tensor, "V S S"], cameras: Cameras, grid: Grid, truncation: float
) -> Float[Tensor, "V R R R"]:
    """Of every cell the distance to each view's silhouette over `truncation`, cut off at -1 and 1.

    The visual hull is where the largest of them is negative (`HullField`).

    Args:
        masks: 1 where the object is, in [0, 1]. cameras: one for each mask.

    Raises:
        BadInput: a mask is empty, not finite or not square.
    """
    check_masks(masks, cameras)
    distance = silhouette_distance(masks)
    points = grid.points().reshape(-1, 3)
    fields = [HullField(distance[[view]], cameras[[view]]).at(points) for view in range(len(cameras))]
    return (torch.stack(fields) / truncation).clamp(-1, 1).reshape(-1, *(grid.resolution,) * 3)
