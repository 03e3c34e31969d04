"""Decimation to a number of faces: quadric edge collapse by fast-simplification, with the topology preserved."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.manifold import Defects, face_components, find_defects
from kiss3d_cli.geometry.surface.remesh import collapse_edges

_HASTE = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
"""The library's aggressiveness, gentlest first: the gentler it is, the closer to the cheapest edge each collapse is,
and the sooner it comes to an end before the number is reached (half a mesh's faces: 2 to 3; an eighth: 3 to 4)."""

_GROWTH = 1.2
"""Factor from one round of collapses of short edges to the next, where quadrics alone would break the topology."""


def decimate(mesh: Mesh, target_faces: int) -> Mesh:
    """At most about `target_faces` faces, by quadric edge collapse (Garland and Heckbert 1997).

    A closed manifold stays one, of as many components and handles; where that does not allow the number, it has more
    faces. A mesh with no more faces than asked for comes back as it is; colours are those of the nearest old vertices,
    so decimate before colouring.

    Raises:
        BadInput: fewer than 4 faces asked for.
    """
    if target_faces < 4:
        raise BadInput(f"A mesh cannot have {target_faces} faces.", hint="Ask for at least 4; 50000 is usual.")
    if mesh.faces.shape[0] <= target_faces:
        return mesh
    before = find_defects(mesh.faces)
    best = mesh
    for haste in _HASTE:
        found = _collapsed(mesh, target_faces, haste)
        if not _is_as_sound(mesh, before, found):
            continue
        if len(found.faces) < len(best.faces):
            best = found
        if len(best.faces) <= target_faces:
            break
    if len(best.faces) > target_faces and before.is_closed_manifold:
        best = _shortest_collapsed(best, target_faces)
    if best is mesh:
        return mesh
    return Mesh(best.vertices, best.faces, nearest_colors(best.vertices, mesh))


def _collapsed(mesh: Mesh, target_faces: int, haste: float) -> Mesh:
    import fast_simplification

    # The library's thresholds are absolute: in a box of its own every mesh gets the same treatment at any scale.
    points = mesh.vertices.detach().cpu().double().numpy()
    centre = (points.min(0) + points.max(0)) / 2
    scale = float(np.abs(points - centre).max()) or 1.0
    vertices, faces = fast_simplification.simplify(
        (points - centre) / scale, mesh.faces.cpu().numpy().astype(np.int32), target_count=target_faces, agg=haste
    )
    used, faces = np.unique(faces, return_inverse=True)
    placed = torch.from_numpy(vertices[used] * scale + centre).to(mesh.vertices)
    return Mesh(placed, torch.from_numpy(faces.reshape(-1, 3).astype(np.int64)).to(mesh.faces.device))


def _is_as_sound(mesh: Mesh, before: Defects, found: Mesh) -> bool:
    """Whether a closed manifold is one still, with the same components and handles; any other mesh, no worse."""
    if len(found.faces) == 0:
        return False
    after = find_defects(found.faces)
    if not before.is_closed_manifold:
        return after.bad_edges <= before.bad_edges and after.bad_vertices <= before.bad_vertices
    return after.is_closed_manifold and _topology(found) == _topology(mesh)


def _topology(mesh: Mesh) -> tuple[int, int]:
    """Components, and Euler's number, of a closed manifold without loose vertices."""
    used = len(torch.unique(mesh.faces))
    return int(face_components(mesh.faces).max()) + 1, used - len(mesh.faces) // 2


def _shortest_collapsed(mesh: Mesh, target_faces: int) -> Mesh:
    """Short edges collapsed in rounds that keep the topology, until there are few enough faces or none gives way."""
    rows, faces = mesh.vertices, mesh.faces
    length = (rows[faces] - rows[faces.roll(-1, 1)]).norm(dim=-1)
    limit, last = float(length.median()), 4 * float(length.max())
    while len(faces) > target_faces and limit < last:
        done = collapse_edges(rows, faces, shorter_than=limit)
        if len(done.faces) == len(faces):
            limit *= _GROWTH
        rows, faces = done.rows, done.faces
    return Mesh(rows, faces)


def nearest_colors(vertices: Float[Tensor, "N 3"], source: Mesh) -> Float[Tensor, "N 3"] | None:
    """For each vertex the colour of the nearest one of `source`; None if that has none."""
    if source.colors is None:
        return None
    from scipy.spatial import cKDTree  # slow to import

    _, index = cKDTree(source.vertices.detach().cpu().numpy()).query(vertices.detach().cpu().numpy())
    return source.colors[torch.from_numpy(index.astype(np.int64)).to(source.colors.device)]
