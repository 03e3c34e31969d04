"""Mesh files as people have them, read into `Mesh`: OBJ, PLY, STL, GLB and GLTF."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.core.errors import BadInput, Kiss3dError, OutOfMemory
from kiss3d_cli.geometry.mesh import Mesh

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf")
"""What `read_mesh` reads, by the file's ending (in either case)."""

_HINT = "give a triangle mesh as " + ", ".join(suffix[1:].upper() for suffix in SUFFIXES)
_OBJ_DROPPED = re.compile(rb"^(?:#|(?:v[tnp]|mtllib|usemtl|usemap|s|g|o)\b)[^\n]*\n?", re.MULTILINE)
_OBJ_FACE_EXTRAS = re.compile(rb"/[-\d/]*")


def read_mesh(path: Path, dtype: torch.dtype = torch.float32, *, alone: bool = False, textures: bool = False) -> Mesh:
    """Read one mesh; a scene's parts are put together in the frame of its root, larger polygons become triangles.

    Units are left as they are in the file. Vertex colours are kept when every part has them. Nothing is read but the
    file itself and what it names inside its own folder: a GLTF's buffers, and textures where they are asked for.

    Args:
        path: a file with one of `SUFFIXES`.
        dtype: of the vertices and colours.
        alone: refuse a GLTF that needs files beside it, for a file that is going to be copied.
        textures: give each vertex its colour in the texture; vertices are split where the texture jumps. A mesh whose
            texture or material is missing or can't be read comes without colours.

    Raises:
        BadInput: no such file, another format, a damaged file, a point cloud, a mesh that `check_mesh` refuses.
    """
    path = Path(path)
    place = str(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(f"a file ending in '{path.suffix}' is not a mesh that kiss3d reads", place=place, hint=_HINT)
    if not path.is_file():
        cause = "this is a folder, not a mesh file" if path.is_dir() else "there is no such mesh file"
        raise BadInput(cause, place=place, hint=f"check the path; {_HINT}")
    parts = _painted(path, suffix, alone) if textures else _parse(path, suffix, alone)
    if not parts:
        raise BadInput("the file has no geometry", place=place, hint="export the mesh again")
    surfaces = [part for part in parts if len(part.faces)]
    if not surfaces:
        raise BadInput(
            "the file is a point cloud or a set of lines: it has no faces",
            place=place,
            hint="reconstruct a surface first (MeshLab: Filters > Remeshing > Screened Poisson), then give that mesh",
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
        raise BadInput("the mesh is empty: it has no faces", place=place, hint="give a mesh with a surface")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        cause = f"a face names vertex {low if low < 0 else high}, but there are {len(mesh.vertices)} vertices"
        raise BadInput(cause, place=place, hint="the file is damaged: export the mesh again")
    corners = mesh.vertices.detach().cpu().double()[mesh.faces.cpu()]
    bad = int((~torch.isfinite(corners).all(-1).all(-1)).sum())
    if bad:
        cause = f"{bad} of {len(mesh.faces)} faces have a corner that is NaN or infinite"
        raise BadInput(cause, place=place, hint="remove these faces, or export the mesh again")
    a, b, c = corners.unbind(1)
    area = float(torch.linalg.cross(b - a, c - a, dim=-1).norm(dim=-1).sum()) / 2
    if not np.isfinite(area):
        raise BadInput("the coordinates are too large to measure", place=place, hint="scale the mesh down")
    extent = float((corners.amax((0, 1)) - corners.amin((0, 1))).max())
    if area <= 1e-14 * extent**2:
        raise BadInput("the mesh has no area: all its faces are degenerate", place=place, hint="give a real surface")


@dataclass
class _Part:
    """One piece of geometry in the root's frame; without faces it is points or lines."""

    vertices: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "N 3"] | None = None
    linear: bool = False


def _placed(geometry: Any, transform: Float[np.ndarray, "4 4"], textures: bool) -> _Part:
    """A geometry of trimesh's, moved to where the scene has it."""
    if getattr(geometry, "faces", None) is None:
        return _Part(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    part = _Part(
        np.asarray(geometry.vertices, dtype=np.float64).reshape(-1, 3),
        np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3),
    )
    if not np.array_equal(transform, np.eye(4)):
        part.vertices = part.vertices @ transform[:3, :3].T + transform[:3, 3]
        if np.linalg.det(transform[:3, :3]) < 0:  # a mirror turns the surface inside out
            part.faces = part.faces[:, ::-1]
    visual = geometry.visual
    if visual.defined and visual.kind == "vertex":
        part.linear = True  # in glTF, where a texture is not
    elif textures and visual.defined and visual.kind == "texture" and _has_picture(visual.material):
        visual = visual.to_color()
    else:
        return part
    colors = np.asarray(visual.vertex_colors)
    if len(colors) == len(part.vertices):
        part.colors = colors[:, :3].astype(np.float64) / 255
    return part


def _has_picture(material: Any) -> bool:
    return getattr(material, "image", None) is not None or getattr(material, "baseColorTexture", None) is not None


class _OwnFolder:
    """Gives a GLTF file the buffers beside it, and nothing from elsewhere."""

    def __init__(self, path: Path, alone: bool) -> None:
        self.path = path
        self.alone = alone

    def get(self, name: str) -> bytes:
        if self.alone:
            cause = f"it needs '{name}' beside it, and is going to be copied"
            raise BadInput(cause, place=str(self.path), hint="export it as one GLB file")
        folder = self.path.parent.resolve()
        wanted = (folder / name.strip()).resolve()
        if "://" in name or not wanted.is_relative_to(folder):
            cause = f"it names '{name}', which is outside its own folder; that is never read"
            raise BadInput(cause, place=str(self.path), hint="export it as one GLB file")
        if not wanted.is_file():
            raise BadInput(
                f"it names '{name}', which is not there",
                place=str(self.path),
                hint=f"put {wanted.name} beside it, or export it as one GLB file",
            )
        return wanted.read_bytes()

    __getitem__ = get


def _painted(path: Path, suffix: str, alone: bool) -> list[_Part]:
    """With textures if that goes well; else as it is without them."""
    try:
        parts = _parse(path, suffix, alone, textures=True)
    except BadInput:
        return _parse(path, suffix, alone)
    return parts if all(part.colors is not None for part in parts if len(part.faces)) else _parse(path, suffix, alone)


def _parse(path: Path, suffix: str, alone: bool, *, textures: bool = False) -> list[_Part]:
    import trimesh  # slow to import, and most of kiss3d does without it

    try:
        data = path.read_bytes()
        if suffix == ".obj" and not textures:
            data = _obj_surface(data)
            plain = _obj_triangles(data)
            if plain is not None:
                return [plain]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="string or file could not be read")
            scene = trimesh.load_scene(
                io.BytesIO(data),
                file_type=suffix[1:],
                resolver=_OwnFolder(path, alone),
                process=False,
                skip_materials=not textures,
            )
            nodes = [scene.graph[node] for node in scene.graph.nodes_geometry]
            parts = [_placed(scene.geometry[name], transform, textures) for transform, name in nodes]
    except Kiss3dError:
        raise
    except MemoryError as error:
        hint = "simplify the mesh, or use a machine with more memory"
        raise OutOfMemory("the mesh does not fit in memory", place=str(path), hint=hint) from error
    except Exception as error:  # trimesh's readers raise whatever the damage leads to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        cause = f"the file cannot be read as {suffix[1:].upper()} ({reason})"
        raise BadInput(cause, place=str(path), hint="open it in a viewer and export it again") from error
    if suffix in (".glb", ".gltf"):
        for part in parts:
            if part.colors is not None and part.linear:
                part.colors = _srgb(part.colors)
    return parts


def _obj_surface(text: bytes) -> bytes:
    """An OBJ's vertices and faces alone.

    Texture coordinates, normals and materials split vertices where they jump; without them the file's own
    connectivity stays, one part stays one part, and reading takes a fifth of the time.
    """
    return _OBJ_FACE_EXTRAS.sub(b"", _OBJ_DROPPED.sub(b"", text))


def _obj_triangles(text: bytes) -> _Part | None:
    """An OBJ that is nothing but vertices and then triangles, in half the time of the general reader; else None."""
    start = text.find(b"\nf ")
    if start < 0 or not text.startswith(b"v ") or b"\nv" in text[start:] or b"-" in text[start:]:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            vertices = np.fromstring(text[:start].replace(b"v", b" "), dtype=np.float64, sep=" ")
            faces = np.fromstring(text[start:].replace(b"f", b" "), dtype=np.int64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    points, triangles = text.count(b"v", 0, start), text.count(b"f", start)
    if len(vertices) != 3 * points or len(faces) != 3 * triangles:
        return None
    return _Part(vertices.reshape(-1, 3), faces.reshape(-1, 3) - 1)


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
