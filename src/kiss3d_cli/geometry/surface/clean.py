"""Meshes made elsewhere: normalisation to the world frame and back, and remeshing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh, face_normals, vertex_normals
from kiss3d_cli.geometry.surface.manifold import find_defects, find_edges, vertex_laplacian
from kiss3d_cli.geometry.surface.remesh import remesh, split_edges
from kiss3d_cli.geometry.surface.repair import Repaired, repair

Up = Literal["y", "z"]
_SHORT, _LONG = 4 / 5, 4 / 3
"""Bounds of the edges, in the length that is wanted: what is split does not become too short by it."""
_CREASE = 0.97
"""Cosine between a vertex's normal and that of a face, below which it lies on an edge of the object."""
_SPLITS = 12
"""Each halves the longest edges."""


@dataclass(frozen=True)
class Frame:
    """Where a mesh lay: a point p of its own frame is at `scale * (turn p - center)` in the world.

    Attributes:
        up: its upward axis. With z upwards, its front looks along -y, as in Blender.
        center: of its box, after the turn.
        scale: world units for one of its own.
    """

    up: Up
    center: tuple[float, float, float]
    scale: float

    @staticmethod
    def of(mesh: Mesh, up: Up, half: float) -> Frame:
        """The frame of a mesh whose box is to be in the middle of the world, its longest side twice `half`.

        Raises:
            BadInput: the mesh has no extent.
        """
        turned = _turned(mesh.vertices[mesh.faces.unique()].double(), up)
        low, high = turned.amin(0), turned.amax(0)
        extent = float((high - low).max())
        if not extent > 0:
            raise BadInput("the mesh has no extent", place="--mesh", hint="give a mesh with a surface")
        x, y, z = ((low + high) / 2).tolist()
        return Frame(up, (x, y, z), 2 * half / extent)

    def into_world(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        moved = _turned(points.double(), self.up) - torch.tensor(self.center, dtype=torch.float64)
        return (self.scale * moved).to(points)

    def out_of_world(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        moved = points.double() / self.scale + torch.tensor(self.center, dtype=torch.float64)
        if self.up == "z":
            moved = torch.stack([moved[:, 0], -moved[:, 2], moved[:, 1]], 1)
        return moved.to(points)


def _turned(points: Float[Tensor, "N 3"], up: Up) -> Float[Tensor, "N 3"]:
    if up == "y":
        return points
    return torch.stack([points[:, 0], points[:, 2], -points[:, 1]], 1)


def mesh_anew(mesh: Mesh, edge: float, rounds: int = 8) -> Repaired:
    """A closed manifold with edges of nearly one length on the surface of a mesh, in its colours.

    It is repaired; then, in rounds, edges are split, collapsed and flipped towards that length, and vertices slide
    along the surface to the middle of their neighbours (Botsch and Kobbelt 2004).

    Args:
        mesh: with colours.
        edge: length of the edges, in world units.
        rounds: of these operations.

    Raises:
        BadInput: nothing with an area is left.
    """
    sound = repair(mesh)
    if not sound.defects.is_closed_manifold or sound.mesh.colors is None:
        return sound
    rows, faces = torch.cat([sound.mesh.vertices, sound.mesh.colors], 1), sound.mesh.faces
    for _ in range(_SPLITS):
        if float((rows[faces, :3] - rows[faces.roll(-1, 1), :3]).norm(dim=-1).max()) <= _LONG * edge:
            break
        done = split_edges(rows, faces, _LONG * edge)
        rows, faces = done.rows, done.faces
    for _ in range(rounds):
        done = remesh(rows, faces, _SHORT * edge, _LONG * edge)
        rows, faces = _slid(done.rows, done.faces), done.faces
    return Repaired(Mesh(rows[:, :3], faces, rows[:, 3:].clamp(0, 1)), find_defects(faces), sound.notes)


def _slid(rows: Float[Tensor, "N C"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "N C"]:
    """Every vertex half way to its neighbours' mean, but for the part of that way along its normal.

    Where the surface is bent by more than `_CREASE`, its vertices stay.
    """
    normals, flat = vertex_normals(rows[:, :3], faces), face_normals(rows[:, :3], faces)
    flat = torch.nn.functional.normalize(flat, dim=-1)
    least = torch.ones(len(rows), dtype=rows.dtype)
    for corner in range(3):
        cosine = (flat * normals[faces[:, corner]]).sum(-1)
        least = least.scatter_reduce(0, faces[:, corner], cosine, "amin")
    way = vertex_laplacian(rows, find_edges(faces))
    place = way[:, :3] - (way[:, :3] * normals).sum(-1, keepdim=True) * normals
    free = (least > _CREASE)[:, None]
    return rows + torch.where(free, torch.cat([place, way[:, 3:]], 1) / 2, 0)
