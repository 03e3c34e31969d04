"""Printability of a mesh: thin walls, overhangs, parts that begin in mid-air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.surface.intersections import self_intersections

THIN = 0.8
"""Millimetres: two lines of the usual nozzle of 0.4 mm."""
STEEP = 45.0
"""Degrees from the vertical up to which each layer carries the next."""
_BED = 0.3
"""Millimetres: the first layer, which lies on the bed."""
_SAMPLES, _ASKED = 40_000, 4_000
_ROUNDS = 12


@dataclass(frozen=True)
class Printability:
    """
    Attributes:
        self_intersections: pairs of faces that cut through each other.
        thin: share of the surface under which the wall is thinner than `THIN`.
        overhang: share of the surface that looks down by more than `STEEP` and does not lie on the bed.
        islands: places at which a part begins in the air.
        contact: square millimetres that lie on the bed.
    """

    self_intersections: int
    thin: float
    overhang: float
    islands: int
    contact: float

    def notes(self) -> list[str]:
        found = []
        if self.self_intersections:
            found.append(f"{self.self_intersections} pairs of faces cut through each other; slicers fill such places.")
        if self.thin > 0.01:
            found.append(f"{self.thin:.0%} of the surface is over walls thinner than {THIN} mm; --wall thickens them.")
        if self.overhang > 0.01:
            found.append(
                f"{self.overhang:.0%} of the surface overhangs by more than {STEEP:g} degrees: it needs support."
            )
        if self.islands:
            parts = "1 part begins" if self.islands == 1 else f"{self.islands} parts begin"
            found.append(f"{parts} in the air and needs support." if self.islands == 1 else f"{parts} in the air.")
        if self.contact < 25:
            found.append(f"Only {self.contact:.1f} mm2 lie on the bed; --base cuts it flat, --stable turns it.")
        return found


def examine(mesh: Mesh) -> Printability:
    """
    Args:
        mesh: closed, in millimetres, z up, its lowest point at 0.
    """
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    areas = np.linalg.norm(normals, axis=1) / 2
    units = normals / np.maximum(2 * areas, 1e-30)[:, None]
    total = float(areas.sum())
    low = vertices[faces][..., 2].max(1) <= _BED
    down = (units[:, 2] < -np.sin(np.deg2rad(STEEP)) - 1e-9) & ~low
    flat = low & (units[:, 2] < -0.9)
    return Printability(
        self_intersections(vertices, faces),
        _thin_share(vertices, faces, units, areas),
        float(areas[down].sum()) / total,
        _islands(mesh),
        float(areas[flat].sum()),
    )


def _thin_share(
    vertices: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "F 3"],
    units: Float[np.ndarray, "F 3"],
    areas: Float[np.ndarray, " F"],
) -> float:
    """Of random points, how many have less than `THIN` to the opposite wall.

    The wall is as thick as the largest ball that touches the surface at a point from within (shrinking balls: Ma et al.
    2012, "3D medial axis point approximation"), and counts where the ball touches two sides that face away.
    """
    generator = np.random.default_rng(0)
    face = generator.choice(len(faces), _SAMPLES, p=areas / areas.sum())
    u, v = generator.random((2, _SAMPLES, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    a, b, c = (vertices[faces[face, corner]] for corner in range(3))
    points, normals = a + u * (b - a) + v * (c - a), units[face]
    tree = cKDTree(points)
    p, n = points[:_ASKED], normals[:_ASKED]
    radius = np.full(_ASKED, THIN)
    touched = np.zeros(_ASKED, np.int64)
    for _ in range(_ROUNDS):
        middle = p - radius[:, None] * n
        found: tuple[np.ndarray, np.ndarray] = tree.query(middle)  # type: ignore[assignment]
        distance, index = found
        closer = distance < radius * (1 - 1e-6)
        if not closer.any():
            break
        way = p[closer] - points[index[closer]]
        along = np.maximum((way * n[closer]).sum(1), 1e-12)
        radius[closer] = np.minimum((way**2).sum(1) / (2 * along), radius[closer] * 0.999)
        touched[closer] = index[closer]
    opposite = (normals[touched] * n).sum(1) < -0.7
    return float(((2 * radius < THIN) & opposite).mean())


def _islands(mesh: Mesh) -> int:
    """Flat or pointed lowest places above the bed, with the solid above them."""
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    ends = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1), axis=0)
    height = vertices[:, 2]
    level = np.abs(height[ends[:, 0]] - height[ends[:, 1]]) < 1e-4
    graph = coo_array((np.ones(level.sum(), bool), tuple(ends[level].T)), (len(vertices), len(vertices)))
    count, plateau = connected_components(graph, directed=False)
    lowest = np.ones(count, bool)
    up = np.where(height[ends[:, 0]] > height[ends[:, 1]], ends[:, 0], ends[:, 1])
    lowest[plateau[up[~level]]] = False
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    down = vertex_normals(mesh.vertices, mesh.faces)[:, 2].numpy()
    sense = np.bincount(plateau, weights=down, minlength=count)
    top = np.zeros(count)
    np.maximum.at(top, plateau, height)
    there = np.bincount(plateau, weights=used, minlength=count) > 0
    return int((lowest & there & (sense < 0) & (top > _BED)).sum())


def volume_of(mesh: Mesh) -> float:
    """Cubic millimetres."""
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c, dim=1)).sum() / 6)
