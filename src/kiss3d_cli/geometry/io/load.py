"""Mesh files, read exactly into `Mesh` or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kiss3d_cli.core.errors import BadInput, OutOfMemory
from kiss3d_cli.geometry.io.collada import read_dae
from kiss3d_cli.geometry.io.gltf.read import read_gltf
from kiss3d_cli.geometry.io.obj import read_obj
from kiss3d_cli.geometry.io.off import read_off
from kiss3d_cli.geometry.io.part import Part, PointCloud, cloud, join
from kiss3d_cli.geometry.io.ply import read_ply
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.io.stl import read_stl
from kiss3d_cli.geometry.io.threemf import read_3mf
from kiss3d_cli.geometry.mesh import Mesh

_READERS: dict[str, Callable[[Source], list[Part]]] = {
    ".obj": read_obj,
    ".ply": read_ply,
    ".stl": read_stl,
    ".off": read_off,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".3mf": read_3mf,
    ".dae": read_dae,
}
SUFFIXES = tuple(_READERS)
"""What `read_mesh` reads, by the file's ending (in either case)."""

_HINT = "give a triangle mesh as " + ", ".join(suffix[1:].upper() for suffix in SUFFIXES)
_CHECKED_AT_ONCE = 1 << 18  # faces


@dataclass(frozen=True)
class Geometry:
    """What a file holds.

    Attributes:
        mesh: its faces; None if it has none.
        points: its points if it has no faces, else None.
        notes: what was left out or taken in a particular way, as sentences.
    """

    mesh: Mesh | None
    points: PointCloud | None
    notes: tuple[str, ...]


def read_mesh(path: Path, dtype: torch.dtype = torch.float32, *, alone: bool = False, textures: bool = False) -> Mesh:
    """Read one mesh: `read_geometry`, for a file that is to have a surface.

    Raises:
        BadInput: as `read_geometry`; a point cloud; a mesh that `check_mesh` refuses.
    """
    mesh = read_geometry(path, dtype, alone=alone, textures=textures).mesh
    if mesh is None:
        raise BadInput(
            "the file is a point cloud or a set of lines: it has no faces",
            place=str(path),
            hint="reconstruct a surface first (MeshLab: Filters > Remeshing > Screened Poisson), then give that mesh",
        )
    return mesh


def read_geometry(
    path: Path, dtype: torch.dtype = torch.float32, *, alone: bool = False, textures: bool = False
) -> Geometry:
    """Read a mesh or a point cloud; a scene's parts are put together in its own frame, polygons become triangles.

    A file that states a unit and an upward axis is read in metres with y up; all others are left as they are. Vertex
    colours are kept when every part has them. Nothing is read but the file itself and what it names inside its own
    folder: a GLTF's buffers, and textures and materials where they are asked for.

    Args:
        path: a file with one of `SUFFIXES`.
        dtype: of the vertices and colours.
        alone: refuse a file that needs others beside it, for a file that is going to be copied.
        textures: give each vertex its colour by textures, materials and faces too; vertices are split where it jumps.
            A mesh whose texture or material is missing or can't be read comes without colours, and a note.

    Raises:
        BadInput: no such file, another format, a damaged file, something in it that kiss3d does not read, faces that
            `check_mesh` refuses.
        OutOfMemory: it does not fit.
    """
    path = Path(path)
    place = str(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"a file ending in '{path.suffix}' is not a mesh that kiss3d reads", place=place, hint=_HINT)
    if not path.is_file():
        cause = "this is a folder, not a mesh file" if path.is_dir() else "there is no such mesh file"
        raise BadInput(cause, place=place, hint=f"check the path; {_HINT}")
    source = Source(path, alone=alone, textures=textures)
    try:
        with np.errstate(all="ignore"):  # a number that is too large shows in the check
            parts = [part for part in _READERS[suffix](source) if len(part.vertices)]
        if not parts:
            raise BadInput("the file has no geometry", place=place, hint="export the mesh again")
        surfaces = [part for part in parts if len(part.faces)]
        if not surfaces:
            return Geometry(None, cloud(parts, dtype, source), tuple(source.notes))
        if len(surfaces) < len(parts):
            source.note("its points and lines are left out: only faces are compared")
        mesh = join(surfaces, dtype, source)
    except MemoryError as error:
        hint = "simplify the mesh, or use a machine with more memory"
        raise OutOfMemory("the mesh does not fit in memory", place=place, hint=hint) from error
    check_mesh(mesh, place)
    return Geometry(mesh, None, tuple(source.notes))


def check_mesh(mesh: Mesh, place: str) -> None:
    """Refuse a mesh that has no surface to measure.

    Args:
        mesh: any mesh.
        place: the file or name that the message is to give.

    Raises:
        BadInput: no faces, a vertex index out of range, NaN or infinite corners, or no area at all.
    """
    if len(mesh.faces) == 0:
        raise BadInput("the mesh is empty: it has no faces", place=place, hint="give a mesh with a surface")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        cause = f"a face names vertex {low if low < 0 else high}, but there are {len(mesh.vertices)} vertices"
        raise BadInput(cause, place=place, hint="the file is damaged: export the mesh again")
    vertices, area, bad = mesh.vertices.detach().cpu(), 0.0, 0
    least, most = torch.full((3,), torch.inf, dtype=torch.float64), torch.full((3,), -torch.inf, dtype=torch.float64)
    for faces in mesh.faces.cpu().split(_CHECKED_AT_ONCE):
        corners = vertices[faces].double()
        bad += int((~torch.isfinite(corners).all(-1).all(-1)).sum())
        a, b, c = corners.unbind(1)
        area += float(torch.linalg.cross(b - a, c - a, dim=-1).norm(dim=-1).sum()) / 2
        least, most = torch.minimum(least, corners.amin((0, 1))), torch.maximum(most, corners.amax((0, 1)))
    if bad:
        cause = f"{bad} of {len(mesh.faces)} faces have a corner that is NaN or infinite"
        raise BadInput(cause, place=place, hint="remove these faces, or export the mesh again")
    if not np.isfinite(area):
        raise BadInput("the coordinates are too large to measure", place=place, hint="scale the mesh down")
    extent = float((most - least).max())
    if area <= 1e-14 * extent**2:
        raise BadInput("the mesh has no area: all its faces are degenerate", place=place, hint="give a real surface")
