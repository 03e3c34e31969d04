"""Mesh files that open everywhere: GLB, OBJ with MTL and PNG, PLY, STL. The same mesh gives the same bytes.

Written here and not by trimesh: its GLB keeps colours in 8 bits, which are too few once they are linear, and its OBJ
splits vertices along texture seams, which opens a closed mesh.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.core.color_space import srgb_to_linear
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.surface.sorting import distinct
from kiss3d_cli.geometry.texture.texture import Texture

SUFFIXES = (".glb", ".obj", ".ply", ".stl")

# Numbers of the glTF 2.0 specification.
_FLOAT, _UNSIGNED_INT = 5126, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942


def write_mesh(path: Path, mesh: Mesh, texture: Texture | None = None) -> list[Path]:
    """Writes a mesh in the format of the path's ending and returns the files, the named one first.

    All formats keep the world frame (y up, front +z). GLB and OBJ carry the texture if there is one, else vertex
    colours; PLY carries vertex colours, STL neither. An OBJ with a texture puts an MTL and a PNG with the same stem
    beside it.

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
        files = {path.with_suffix(ending): data for ending, data in obj(mesh, texture, path.stem).items()}
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


def ply(mesh: Mesh) -> bytes:
    """Binary PLY with sRGB-encoded vertex colours, as viewers expect them."""
    vertices, faces = _arrays(mesh)
    colors = _bytes_of_colors(mesh)
    fields: list[Any] = [("xyz", "<f4", 3)]
    names = [f"property float {axis}" for axis in "xyz"]
    if colors is not None:
        fields.append(("rgb", "u1", 3))
        names += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    table = np.zeros(len(vertices), dtype=fields)
    table["xyz"] = vertices
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


def obj(mesh: Mesh, texture: Texture | None, stem: str) -> dict[str, bytes]:
    """OBJ text by file ending; with a texture also the MTL and the PNG, which are named `stem` too.

    Without a texture, vertex colours follow the positions, sRGB-encoded (MeshLab's and Blender's extension of OBJ).
    """
    vertices, faces = _arrays(mesh)
    numbers = faces + 1
    if texture is None:
        colors = None if mesh.colors is None else mesh.colors.detach().cpu().float().clamp(0, 1).numpy()
        rows = vertices if colors is None else np.concatenate([vertices, colors], 1)
        form = "v %.9g %.9g %.9g" if colors is None else "v %.9g %.9g %.9g %.5g %.5g %.5g"
        return {".obj": (_lines(form, rows) + _lines("f %d %d %d", numbers)).encode()}
    uv = texture.uv.detach().cpu().double().numpy() * [1, -1] + [0, 1]  # OBJ has v upwards
    corners = texture.corners.cpu().numpy() + 1
    pairs = np.stack([numbers, corners], -1).reshape(-1, 6)
    text = f"mtllib {stem}.mtl\n" + _lines("v %.9g %.9g %.9g", vertices) + _lines("vt %.7g %.7g", uv)
    text += "usemtl surface\n" + _lines("f %d/%d %d/%d %d/%d", pairs)
    material = f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {stem}.png\n"
    return {".obj": text.encode(), ".mtl": material.encode(), ".png": texture.png}


def _lines(form: str, rows: np.ndarray) -> str:
    return ((form + "\n") * len(rows)) % tuple(rows.reshape(-1).tolist())


def glb(mesh: Mesh, texture: Texture | None) -> bytes:
    """glTF 2.0 in one binary file, y up and front +z as glTF has it.

    The base colour texture is sRGB-encoded, COLOR_0 is linear; the material is rough and not metallic.
    """
    vertices, faces = _arrays(mesh)
    normals = vertex_normals(mesh.vertices.detach().cpu().double(), mesh.faces.cpu()).numpy()
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 1, 0)  # a vertex without a face still needs a unit vector
    attributes = {"POSITION": vertices, "NORMAL": normals}
    material: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 1}
    if texture is not None:
        corners, places = texture.corners.cpu().numpy().reshape(-1), len(texture.uv)
        pairs, _, index = distinct(faces.reshape(-1) * places + corners, len(vertices) * places)
        attributes = {name: values[pairs // places] for name, values in attributes.items()}
        attributes["TEXCOORD_0"] = texture.uv.detach().cpu().numpy()[pairs % places]
        faces = index.reshape(-1, 3)
        material["baseColorTexture"] = {"index": 0}
    elif mesh.colors is not None:
        attributes["COLOR_0"] = srgb_to_linear(mesh.colors.detach().cpu().double().clamp(0, 1).numpy())
    binary = _Binary()
    accessors = {name: binary.add(values.astype("<f4"), _VERTEX_BUFFER) for name, values in attributes.items()}
    indices = binary.add(faces.astype("<u4").reshape(-1), _INDEX_BUFFER)
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "kiss3d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "mesh"}],
        "meshes": [{"primitives": [{"attributes": accessors, "indices": indices, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": material, "doubleSided": True}],
    }
    if texture is not None:
        document["images"] = [{"bufferView": binary.view(texture.png), "mimeType": "image/png"}]
        document["samplers"] = [
            {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
        ]
        document["textures"] = [{"sampler": 0, "source": 0}]
    document |= {
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary.data)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<II", len(text), _JSON_CHUNK),
            text,
            struct.pack("<II", len(binary.data), _BINARY_CHUNK),
            bytes(binary.data),
        ]
    )


class _Binary:
    """The binary chunk of a GLB as it grows; everything in it starts at a multiple of four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)})
        if target is not None:
            self.views[-1]["target"] = target
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def add(self, values: np.ndarray, target: int) -> int:
        """An accessor for (N,) indices or (N, 2 or 3) float32 values."""
        accessor: dict[str, Any] = {"bufferView": self.view(values.tobytes(), target), "count": len(values)}
        if values.ndim == 1:
            accessor |= {"componentType": _UNSIGNED_INT, "type": "SCALAR"}
        else:
            accessor |= {"componentType": _FLOAT, "type": f"VEC{values.shape[1]}"}
            if target == _VERTEX_BUFFER:
                accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1
