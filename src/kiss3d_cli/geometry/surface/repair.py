"""Making a mesh closed and manifold: our own rounds of mending, then MeshLab's where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import nearest_colors
from kiss3d_cli.geometry.surface.manifold import Defects, find_defects
from kiss3d_cli.geometry.surface.mend import mend

_ROUNDS = 4
"""A round can leave or make a defect in a tangle; two mend all that was met, the others are in reserve."""
_EXTRA = "pymeshlab"
"""A package under the GPL that needs OpenGL's library: the extra of this name brings it for those who want it."""


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
    """Removes degenerate faces, splits non-manifold parts, fills all holes and orients the surface outwards.

    A closed manifold comes back as it is, except that vertices without a face are dropped and an inside-out mesh is
    turned.

    Raises:
        BadInput: no two faces of it make a surface.
        Missing: MeshLab is installed and is needed, but can't be loaded.
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
    start = current
    for _ in range(_ROUNDS):
        if defects.is_closed_manifold:
            break
        current = _mend(current)
        defects = find_defects(current.faces)
    if not defects.is_closed_manifold and find_spec(_EXTRA):
        by_meshlab = _mend_by_meshlab(_mend_by_meshlab(start))
        if find_defects(by_meshlab.faces).is_closed_manifold:
            current, defects = by_meshlab, find_defects(by_meshlab.faces)
            notes.append("Repaired with MeshLab what was too tangled for the built-in repair.")
    if not before.is_closed_manifold:
        notes.append(_what_was_done(before))
    if not defects.is_closed_manifold:
        left = f"{defects.boundary_edges} open and {defects.bad_edges + defects.bad_vertices} bad edges or vertices"
        notes.append(f"The repair is not complete: {left} are left.")
    if defects.is_closed_manifold and _volume(current) < 0:
        current = Mesh(current.vertices, current.faces.flip(1), current.colors)
        notes.append("Turned the surface, which was inside out.")
    return Repaired(current, defects, notes)


def what_to_try() -> str:
    """Advice for a mesh that `repair` could not complete."""
    hint = "start from the visual hull: --set refine.start=hull"
    return hint if find_spec(_EXTRA) else f"{hint}; or let MeshLab try: pip install 'kiss3d[{_EXTRA}]', then resume"


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
    vertices, faces = mend(mesh.vertices.detach().cpu().double().numpy(), mesh.faces.cpu().numpy())
    if len(faces) == 0:
        raise BadInput("The faces of the mesh make no surface.", hint="Give a mesh whose faces share edges.")
    return _like(mesh, vertices, faces)


def _mend_by_meshlab(mesh: Mesh) -> Mesh:
    try:
        import pymeshlab
    except ImportError as error:
        raise Missing(
            f"pymeshlab is installed but can't be loaded: {error}",
            hint="apt-get install libgl1 libopengl0, or pip uninstall pymeshlab",
        ) from None

    work = pymeshlab.MeshSet(verbose=False)
    work.add_mesh(
        pymeshlab.Mesh(mesh.vertices.detach().cpu().double().numpy(), mesh.faces.cpu().numpy().astype(np.int32))
    )
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
    done = work.current_mesh()
    return _like(mesh, done.vertex_matrix(), done.face_matrix())


def _like(mesh: Mesh, vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> Mesh:
    points = torch.from_numpy(vertices.copy()).to(mesh.vertices)
    triangles = torch.from_numpy(faces.astype(np.int64)).to(mesh.faces.device)
    return Mesh(points, triangles, nearest_colors(points, mesh))
