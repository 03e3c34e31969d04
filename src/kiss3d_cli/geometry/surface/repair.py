"""Making a mesh closed and manifold, and giving it a number of faces: MeshLab's filters in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.manifold import Defects, find_defects

_ROUNDS = 3
"""Filling a hole can make a new defect; two rounds mend all that was met, the third is in reserve."""


@dataclass(frozen=True)
class Repaired:
    """
    Attributes:
        mesh: the repaired mesh; colours are those of the nearest vertices of the old one.
        defects: what is left; `defects.is_closed_manifold` tells whether the repair is complete.
        notes: sentences for the user on what was done, none if the mesh was sound.
    """

    mesh: Mesh
    defects: Defects
    notes: list[str]


def repair(mesh: Mesh) -> Repaired:
    """Removes what cannot be, splits what is not manifold, fills all holes and turns the surface outside out.

    A closed manifold comes back as it is, except that vertices without a face are dropped and an inside-out mesh is
    turned.

    Raises:
        BadInput: nothing with an area is left.
    """
    notes: list[str] = []
    finite = torch.isfinite(mesh.vertices).all(1)[mesh.faces].all(1)
    if not bool(finite.all()):
        notes.append(f"Dropped {int((~finite).sum())} faces with vertices that are not finite numbers.")
    faces = mesh.faces[finite]
    if faces.shape[0] == 0:
        raise BadInput("The mesh has no faces.", hint="Give a mesh with a surface, or run the stage before again.")
    current = _used(Mesh(mesh.vertices.nan_to_num(), faces, mesh.colors))
    before = find_defects(current.faces)
    defects = before
    for _ in range(_ROUNDS):
        if defects.is_closed_manifold:
            break
        current = _mend(current)
        defects = find_defects(current.faces)
    if not before.is_closed_manifold:
        notes.append(_what_was_done(before))
    if not defects.is_closed_manifold:
        left = f"{defects.boundary_edges} open and {defects.bad_edges + defects.bad_vertices} bad edges or vertices"
        notes.append(f"The repair is not complete: {left} are left.")
    if defects.is_closed_manifold and _volume(current) < 0:
        current = Mesh(current.vertices, current.faces.flip(1), current.colors)
        notes.append("Turned the surface, which was inside out.")
    return Repaired(current, defects, notes)


def _what_was_done(before: Defects) -> str:
    faults = {
        "degenerate faces": before.degenerate_faces,
        "duplicate faces": before.duplicate_faces,
        "edges with one face": before.boundary_edges,
        "edges with more than two faces or with faces that disagree": before.bad_edges,
        "vertices between separate fans": before.bad_vertices,
    }
    return "Repaired " + ", ".join(f"{count} {name}" for name, count in faults.items() if count) + "."


def _volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices.detach().double()[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c, dim=-1)).sum())


def _used(mesh: Mesh) -> Mesh:
    """Without the vertices that no face uses."""
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=mesh.faces.device)
    used[mesh.faces] = True
    number = used.cumsum(0) - 1
    return Mesh(mesh.vertices[used], number[mesh.faces], None if mesh.colors is None else mesh.colors[used])


def _mend(mesh: Mesh) -> Mesh:
    work = _open(mesh)
    work.meshing_remove_duplicate_vertices()
    work.meshing_remove_duplicate_faces()
    work.meshing_remove_null_faces()
    if work.current_mesh().face_number() == 0:
        raise BadInput("All faces of the mesh are degenerate.", hint="Give a mesh with a surface.")
    work.meshing_repair_non_manifold_edges(method="Remove Faces")
    work.meshing_repair_non_manifold_vertices(vertdispratio=0)
    work.meshing_re_orient_faces_coherently()
    work.meshing_close_holes(maxholesize=3 * work.current_mesh().face_number(), selfintersection=False)
    work.meshing_remove_unreferenced_vertices()
    return _close(work, mesh)


def decimate(mesh: Mesh, target_faces: int) -> Mesh:
    """At most about `target_faces` faces, by quadric edge collapse that keeps the topology (Garland and Heckbert 1997).

    A closed manifold stays one. A mesh with no more faces than that comes back as it is; colours are those of the
    nearest old vertices, so decimate before colouring.

    Raises:
        BadInput: fewer than 4 faces asked for.
    """
    if target_faces < 4:
        raise BadInput(f"A mesh cannot have {target_faces} faces.", hint="Ask for at least 4; 50000 is usual.")
    if mesh.faces.shape[0] <= target_faces:
        return mesh
    work = _open(mesh)
    work.meshing_decimation_quadric_edge_collapse(
        targetfacenum=target_faces, preservetopology=True, preserveboundary=True, preservenormal=True, qualitythr=0.5
    )
    work.meshing_remove_unreferenced_vertices()
    return _close(work, mesh)


def _open(mesh: Mesh) -> Any:
    import pymeshlab  # slow to import

    work = pymeshlab.MeshSet(verbose=False)
    points = mesh.vertices.detach().cpu().double().numpy()
    work.add_mesh(pymeshlab.Mesh(points, mesh.faces.cpu().numpy().astype(np.int32)))
    return work


def _close(work: Any, source: Mesh) -> Mesh:
    done = work.current_mesh()
    vertices = torch.from_numpy(done.vertex_matrix().copy()).to(source.vertices)
    faces = torch.from_numpy(done.face_matrix().astype(np.int64)).to(source.faces.device)
    return Mesh(vertices, faces, _nearest_colors(vertices, source))


def _nearest_colors(vertices: Float[Tensor, "N 3"], source: Mesh) -> Float[Tensor, "N 3"] | None:
    if source.colors is None:
        return None
    _, index = cKDTree(source.vertices.detach().cpu().numpy()).query(vertices.cpu().numpy())
    return source.colors[torch.from_numpy(index.astype(np.int64)).to(source.colors.device)]
