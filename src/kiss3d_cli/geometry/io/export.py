"""Mesh files that open everywhere: GLB, OBJ with MTL and PNG, PLY, STL. The same mesh gives the same bytes.

Written here and not by trimesh: its GLB keeps colours in 8 bits, which are too few once they are linear, and its OBJ
splits vertices along texture seams, which opens a closed mesh.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.gltf.write import Surface, unit_normals, write_glb
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture, png_file

SUFFIXES = (".glb", ".obj", ".ply", ".stl")


def write_mesh(path: Path, mesh: Mesh, texture: Texture | None = None) -> list[Path]:
    """Writes a mesh in the format of the path's ending and returns the files, the named one first.

    All formats keep the world frame (y up, front +z), and all but STL the vertices' normals. GLB and OBJ carry the
    texture if there is one, else vertex colours; PLY carries vertex colours, STL neither. An OBJ with a texture puts an
    MTL and a PNG beside it, named as `companion` says.

    Raises:
        BadInput: another ending, a mesh without faces, vertices that are not finite, faces that do not fit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        hint = "Use a name that ends in " + ", ".join(SUFFIXES) + "."
        raise BadInput(f"A mesh cannot be written as '{path.suffix}'.", place=str(path), hint=hint)
    _check(mesh, texture, str(path))
    if suffix == ".glb":
        files = {path: glb(mesh, texture)}
    elif suffix == ".ply":
        files = {path: ply(mesh)}
    elif suffix == ".stl":
        files = {path: stl(mesh)}
    else:
        stem = companion(path.stem)
        files = {path.with_name(stem + ending): data for ending, data in obj(mesh, texture, stem).items()}
        files = {path if file.suffix == ".obj" else file: data for file, data in files.items()}
    for file, data in files.items():
        file.write_bytes(data)
    return list(files)


def _check(mesh: Mesh, texture: Texture | None, place: str) -> None:
    hint = "Repair the mesh before it is exported."
    if mesh.faces.shape[0] == 0:
        raise BadInput("The mesh has no faces.", place=place, hint=hint)
    if not bool(torch.isfinite(mesh.vertices).all()):
        raise BadInput("The mesh has vertices that are not finite numbers.", place=place, hint=hint)
    if int(mesh.faces.min()) < 0 or int(mesh.faces.max()) >= mesh.vertices.shape[0]:
        raise BadInput("The mesh has faces that name vertices which are not there.", place=place, hint=hint)
    if texture is not None and texture.corners.shape[0] != mesh.faces.shape[0]:
        raise BadInput("The texture was made for a mesh with other faces.", place=place, hint="Bake it again.")


def _arrays(mesh: Mesh) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "F 3"]]:
    vertices = mesh.vertices.detach().cpu().float().numpy() + np.float32(0)  # -0 and 0 become the same bytes
    return vertices, mesh.faces.detach().cpu().numpy()


def _bytes_of_colors(mesh: Mesh) -> np.ndarray | None:
    """(N, 3) uint8, sRGB-encoded."""
    if mesh.colors is None:
        return None
    return (mesh.colors.detach().cpu().double().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def companion(stem: str) -> str:
    """The stem of the files that an OBJ of this stem names.

    Most readers split such names at spaces, and do not agree on how letters beyond ASCII are encoded. So these are
    replaced, and the end tells apart what would become the same.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)
    return stem if plain == stem else f"{plain}-{hashlib.sha256(stem.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def ply(mesh: Mesh) -> bytes:
    """Binary PLY with normals and sRGB-encoded vertex colours, as viewers expect them."""
    vertices, faces = _arrays(mesh)
    colors = _bytes_of_colors(mesh)
    fields: list[Any] = [("xyz", "<f4", 3), ("normal", "<f4", 3)]
    names = [f"property float {axis}" for axis in ("x", "y", "z", "nx", "ny", "nz")]
    if colors is not None:
        fields.append(("rgb", "u1", 3))
        names += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    table = np.zeros(len(vertices), dtype=fields)
    table["xyz"], table["normal"] = vertices, unit_normals(mesh)
    if colors is not None:
        table["rgb"] = colors
    rows = np.zeros(len(faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    rows["count"], rows["index"] = 3, faces
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *names]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines).encode() + table.tobytes() + rows.tobytes()


def stl(mesh: Mesh) -> bytes:
    """Binary STL: shape alone."""
    vertices, faces = _arrays(mesh)
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["normal"], rows["corners"] = normals, corners
    return b"kiss3d".ljust(80, b" ") + struct.pack("<I", len(faces)) + rows.tobytes()


def obj(
    mesh: Mesh,
    texture: Texture | None,
    stem: str,
    normal_map: UInt8[Tensor, "H W 3"] | None = None,
    roughness: float = 1.0,
) -> dict[str, bytes]:
    """OBJ text by file ending, smooth; with a texture also the MTL and the PNG, which are named `stem` too.

    Without a texture, vertex colours follow the positions, sRGB-encoded (MeshLab's and Blender's extension of OBJ).

    Args:
        stem: as `companion` makes it.
        normal_map: in the texture's coordinates; a second PNG.
        roughness: 1 is a matt surface.
    """
    vertices, faces = _arrays(mesh)
    numbers = faces + 1
    normals = _lines("vn %.5g %.5g %.5g", unit_normals(mesh)) + "s 1\n"
    if texture is None:
        colors = None if mesh.colors is None else mesh.colors.detach().cpu().float().clamp(0, 1).numpy()
        rows = vertices if colors is None else np.concatenate([vertices, colors], 1)
        form = "v %.9g %.9g %.9g" if colors is None else "v %.9g %.9g %.9g %.5g %.5g %.5g"
        polygons = _lines("f %d//%d %d//%d %d//%d", np.repeat(numbers, 2, 1))
        return {".obj": (_lines(form, rows) + normals + polygons).encode()}
    uv = texture.uv.detach().cpu().double().numpy() * [1, -1] + [0, 1]  # OBJ has v upwards
    corners = texture.corners.cpu().numpy() + 1
    triples = np.stack([numbers, corners, numbers], -1).reshape(-1, 9)
    text = f"mtllib {stem}.mtl\n" + _lines("v %.9g %.9g %.9g", vertices) + _lines("vt %.7g %.7g", uv) + normals
    text += "usemtl surface\n" + _lines("f %d/%d/%d %d/%d/%d %d/%d/%d", triples)
    material = f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {stem}.png\n"
    files = {".png": texture.png}
    if roughness < 1:
        material += f"Pr {roughness:.3g}\n"
    if normal_map is not None:
        material += f"map_Bump {stem}_normal.png\n"
        files["_normal.png"] = png_file(normal_map)
    return {".obj": text.encode(), ".mtl": material.encode(), **files}


def obj_of_parts(parts: Mapping[str, Mesh]) -> bytes:
    """An OBJ of several objects without colours, by their names."""
    text, before = "", 0
    for name, mesh in parts.items():
        vertices, faces = _arrays(mesh)
        text += f"o {name}\n" + _lines("v %.9g %.9g %.9g", vertices) + _lines("f %d %d %d", faces + 1 + before)
        before += len(vertices)
    return text.encode()


def _lines(form: str, rows: np.ndarray) -> str:
    return ((form + "\n") * len(rows)) % tuple(rows.reshape(-1).tolist())


def glb(mesh: Mesh, texture: Texture | None) -> bytes:
    """glTF 2.0 in one binary file, y up and front +z as glTF has it (`gltf.write`)."""
    return write_glb([Surface("mesh", mesh, texture)])
