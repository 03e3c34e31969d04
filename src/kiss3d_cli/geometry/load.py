"""Mesh files as people have them, read into `Mesh`: OBJ, PLY, STL, GLB and GLTF."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.core.errors import BadInput, Kiss3dError, OutOfMemory
from kiss3d_cli.geometry.mesh import Mesh

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf")
"""What `read_mesh` reads, by the file's ending (in either case)."""

_HINT = "Give a triangle mesh as " + ", ".join(suffix[1:].upper() for suffix in SUFFIXES) + "."
_OBJ_DROPPED = re.compile(rb"^(?:#|(?:v[tnp]|mtllib|usemtl|usemap|s|g|o)\b)[^\n]*\n?", re.MULTILINE)
_OBJ_FACE_EXTRAS = re.compile(rb"/[-\d/]*")


def read_mesh(path: Path, dtype: torch.dtype = torch.float32, *, alone: bool = False) -> Mesh:
    """Read one mesh; a scene's parts are put together in the frame of its root, larger polygons become triangles.

    Units are left as they are in the file. Vertex colours are kept when every part has them; textures are not read.
    Nothing is read but the file itself and, for GLTF, the buffers that it names inside its own folder.

    Args:
        path: a file with one of `SUFFIXES`.
        dtype: of the vertices and colours.
        alone: refuse a GLTF that needs files beside it, for a file that is going to be copied.

    Raises:
        BadInput: no such file, another format, a damaged file, a point cloud, a mesh that `check_mesh` refuses.
    """
    path = Path(path)
    place = str(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"A file ending in '{path.suffix}' is not a mesh that kiss3d reads.", place=place, hint=_HINT)
    if not path.is_file():
        cause = "This is a folder, not a mesh file." if path.is_dir() else "There is no such mesh file."
        raise BadInput(cause, place=place, hint="Check the path; " + _HINT[0].lower() + _HINT[1:])
    parts = _parse(path, suffix, alone)
    if not parts:
        raise BadInput("The file has no geometry.", place=place, hint="Export the mesh again.")
    surfaces = [part for part in parts if part.faces is not None]
    if not surfaces:
        raise BadInput(
            "The file is a point cloud or a set of lines: it has no faces.",
            place=place,
            hint="Reconstruct a surface first (MeshLab: Filters > Remeshing > Screened Poisson), then give that mesh.",
        )
    mesh = _join(surfaces, dtype)
    check_mesh(mesh, place)
    return mesh


def check_mesh(mesh: Mesh, place: str) -> None:
    """Refuse a mesh that has no surface to measure.

    Args:
        mesh: any mesh.
        place: the file or name that the message is to give.

    Raises:
        BadInput: no faces, a vertex index out of range, NaN or infinite corners, or no area at all.
    """
    if len(mesh.faces) == 0:
        raise BadInput("The mesh is empty: it has no faces.", place=place, hint="Give a mesh with a surface.")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        cause = f"A face names vertex {low if low < 0 else high}, but there are {len(mesh.vertices)} vertices."
        raise BadInput(cause, place=place, hint="The file is damaged: export the mesh again.")
    corners = mesh.vertices.detach().cpu().double()[mesh.faces.cpu()]
    bad = int((~torch.isfinite(corners).all(-1).all(-1)).sum())
    if bad:
        cause = f"{bad} of {len(mesh.faces)} faces have a corner that is NaN or infinite."
        raise BadInput(cause, place=place, hint="Remove these faces, or export the mesh again.")
    a, b, c = corners.unbind(1)
    area = float(torch.linalg.cross(b - a, c - a, dim=-1).norm(dim=-1).sum()) / 2
    if not np.isfinite(area):
        raise BadInput("The coordinates are too large to measure.", place=place, hint="Scale the mesh down.")
    extent = float((corners.amax((0, 1)) - corners.amin((0, 1))).max())
    if area <= 1e-14 * extent**2:
        raise BadInput("The mesh has no area: all its faces are degenerate.", place=place, hint="Give a real surface.")


class _Part:
    """One piece of geometry in the root's frame; `faces` is None for points and lines."""

    def __init__(self, geometry: Any, transform: Float[np.ndarray, "4 4"] | None) -> None:
        self.faces: Int[np.ndarray, "F 3"] | None = None
        self.colors: Float[np.ndarray, "N 3"] | None = None
        faces = getattr(geometry, "faces", None)
        if faces is None:
            return
        self.faces = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
        self.vertices = np.asarray(geometry.vertices, dtype=np.float64).reshape(-1, 3)
        if transform is not None and not np.array_equal(transform, np.eye(4)):
            self.vertices = self.vertices @ transform[:3, :3].T + transform[:3, 3]
            if np.linalg.det(transform[:3, :3]) < 0:  # a mirror turns the surface inside out
                self.faces = self.faces[:, ::-1]
        if geometry.visual.defined and geometry.visual.kind == "vertex":
            colors = np.asarray(geometry.visual.vertex_colors)
            if len(colors) == len(self.vertices):
                self.colors = colors[:, :3].astype(np.float64) / 255


class _OwnFolder:
    """Gives a GLTF file the buffers beside it, and nothing from elsewhere."""

    def __init__(self, path: Path, alone: bool) -> None:
        self.path = path
        self.alone = alone

    def get(self, name: str) -> bytes:
        if self.alone:
            cause = f"It needs '{name}' beside it, and is going to be copied."
            raise BadInput(cause, place=str(self.path), hint="Export it as one GLB file.")
        folder = self.path.parent.resolve()
        wanted = (folder / name.strip()).resolve()
        if "://" in name or not wanted.is_relative_to(folder):
            cause = f"It names '{name}', which is outside its own folder; that is never read."
            raise BadInput(cause, place=str(self.path), hint="Export it as one GLB file.")
        if not wanted.is_file():
            raise BadInput(
                f"It names '{name}', which is not there.",
                place=str(self.path),
                hint=f"Put {wanted.name} beside it, or export it as one GLB file.",
            )
        return wanted.read_bytes()

    __getitem__ = get


def _parse(path: Path, suffix: str, alone: bool) -> list[_Part]:
    import trimesh  # slow to import, and most of kiss3d does without it

    try:
        data = path.read_bytes()
        if suffix == ".obj":
            data = _obj_surface(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="string or file could not be read")
            scene = trimesh.load_scene(
                io.BytesIO(data),
                file_type=suffix[1:],
                resolver=_OwnFolder(path, alone),
                process=False,
                skip_materials=True,
            )
            placed = [scene.graph[node] for node in scene.graph.nodes_geometry]
            parts = [_Part(scene.geometry[name], transform) for transform, name in placed]
    except Kiss3dError:
        raise
    except MemoryError as error:
        hint = "Simplify the mesh, or use a machine with more memory."
        raise OutOfMemory("The mesh does not fit in memory.", place=str(path), hint=hint) from error
    except Exception as error:  # trimesh's readers raise whatever the damage leads to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        cause = f"The file cannot be read as {suffix[1:].upper()} ({reason})."
        raise BadInput(cause, place=str(path), hint="Open it in a viewer and export it again.") from error
    if suffix in (".glb", ".gltf"):
        for part in parts:
            if part.colors is not None:
                part.colors = _srgb(part.colors)
    return parts


def _obj_surface(text: bytes) -> bytes:
    """An OBJ's vertices and faces alone.

    Texture coordinates, normals and materials split vertices where they jump; without them the file's own
    connectivity stays, one part stays one part, and reading takes a fifth of the time.
    """
    return _OBJ_FACE_EXTRAS.sub(b"", _OBJ_DROPPED.sub(b"", text))


def _srgb(linear: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """glTF vertex colours are linear; everything in memory is sRGB-encoded (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def _join(parts: list[_Part], dtype: torch.dtype) -> Mesh:
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    vertices = np.concatenate([part.vertices for part in parts])
    painted = [part.colors for part in parts if part.colors is not None]
    colors = torch.from_numpy(np.concatenate(painted)).to(dtype) if len(painted) == len(parts) else None
    return Mesh(torch.from_numpy(vertices).to(dtype), torch.from_numpy(np.ascontiguousarray(faces)), colors)
