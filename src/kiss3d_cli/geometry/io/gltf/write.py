"""glTF 2.0 in one binary file: one or several surfaces, plain or packed small.

Plain, all numbers are float32 and pictures PNG. Packed, numbers are quantised (KHR_mesh_quantization) and compressed by
meshoptimizer (EXT_meshopt_compression), and pictures are WebP (EXT_texture_webp).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.core.color_space import srgb_to_linear
from kiss3d_cli.geometry.io.gltf.codecs import meshopt_encoder, pack_meshopt
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.surface.sorting import distinct
from kiss3d_cli.geometry.texture.tangents import tangents
from kiss3d_cli.geometry.texture.texture import Texture, png_file

# Numbers of the glTF 2.0 specification.
_BYTE, _UNSIGNED_SHORT, _UNSIGNED_INT, _FLOAT = 5120, 5123, 5125, 5126
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 9729, 9987, 33071
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_WEBP_QUALITY = 88


@dataclass(frozen=True)
class Surface:
    """One node of the file.

    Attributes:
        mesh: y up, front +z, in metres.
        texture: None for the colours of the vertices.
        normal_map: in the texture's coordinates, green upwards; None without one.
        roughness: 1 is a matt surface.
        shown: whether it has a material; collision hulls have none.
    """

    name: str
    mesh: Mesh
    texture: Texture | None = None
    normal_map: UInt8[Tensor, "H W 3"] | None = None
    roughness: float = 1.0
    shown: bool = True


def write_glb(surfaces: Sequence[Surface], *, packed: bool = False) -> bytes:
    """A GLB of these surfaces, all of them in its one scene.

    The base colour texture is sRGB-encoded, COLOR_0 is linear; materials are not metallic. The same surfaces give the
    same bytes.

    Raises:
        Missing: `packed`, and meshoptimizer's encoder is not installed.
    """
    document: dict[str, Any] = {"asset": {"version": "2.0", "generator": "kiss3d"}}
    if packed:
        names = ["EXT_meshopt_compression", "KHR_mesh_quantization"]
        names += ["EXT_texture_webp"] if any(surface.texture is not None for surface in surfaces) else []
        document |= {"extensionsUsed": names, "extensionsRequired": names}
    file = _File(packed)
    nodes = [file.add(surface) for surface in surfaces]
    document |= {"scene": 0, "scenes": [{"nodes": list(range(len(nodes)))}], "nodes": nodes, "meshes": file.meshes}
    if file.materials:
        document["materials"] = file.materials
    if file.images:
        document |= {"images": file.images, "samplers": [_SAMPLER], "textures": file.textures}
    document |= {"accessors": file.accessors, "bufferViews": file.views, "buffers": file.buffers()}
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(file.data)),
            struct.pack("<II", len(text), _JSON_CHUNK),
            text,
            struct.pack("<II", len(file.data), _BINARY_CHUNK),
            bytes(file.data),
        ]
    )


_SAMPLER = {
    "magFilter": _LINEAR,
    "minFilter": _LINEAR_MIPMAP_LINEAR,
    "wrapS": _CLAMP_TO_EDGE,
    "wrapT": _CLAMP_TO_EDGE,
}


@dataclass
class _File:
    """The parts of the document and the binary chunk as they grow; everything in it starts at a multiple of four."""

    packed: bool
    data: bytearray = field(default_factory=bytearray)
    unpacked: int = 0
    meshes: list[dict[str, Any]] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    textures: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)

    def add(self, surface: Surface) -> dict[str, Any]:
        """The node of a surface, whose mesh and material join the file."""
        attributes, faces = _attributes(surface)
        node: dict[str, Any] = {"mesh": len(self.meshes), "name": surface.name}
        if self.packed:
            placing, accessors, indices = self._add_packed(attributes, faces)
            node |= placing
        else:
            accessors = {name: self._accessor(values.astype("<f4")) for name, values in attributes.items()}
            indices = self._accessor(faces.astype("<u4").reshape(-1))
        primitive: dict[str, Any] = {"attributes": accessors, "indices": indices}
        if surface.shown:
            primitive["material"] = len(self.materials)
            self.materials.append(self._material(surface))
        self.meshes.append({"primitives": [primitive]})
        return node

    def buffers(self) -> list[dict[str, Any]]:
        """The binary chunk, and the one that exists only for readers that know no compression: none."""
        found: list[dict[str, Any]] = [{"byteLength": len(self.data)}]
        if self.unpacked:
            fallback = {"EXT_meshopt_compression": {"fallback": True}}
            found.append({"byteLength": self.unpacked, "extensions": fallback})
        return found

    def _material(self, surface: Surface) -> dict[str, Any]:
        roughness = 1 if surface.roughness == 1 else round(surface.roughness, 4)
        material: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": roughness}
        whole: dict[str, Any] = {"pbrMetallicRoughness": material}
        if surface.texture is not None:
            texture = surface.texture
            material["baseColorTexture"] = {"index": self._picture(texture.image, lambda: texture.png)}
        if surface.normal_map is not None:
            normals = surface.normal_map
            whole["normalTexture"] = {"index": self._picture(normals, lambda: png_file(normals))}
        return whole | {"doubleSided": True}

    def _picture(self, pixels: UInt8[Tensor, "H W 3"], png: Callable[[], bytes]) -> int:
        kind, file = ("image/webp", _webp(pixels)) if self.packed else ("image/png", png())
        self.images.append({"bufferView": self._view(file), "mimeType": kind})
        source = {"source": len(self.images) - 1}
        own = {"extensions": {"EXT_texture_webp": source}} if self.packed else source
        self.textures.append({"sampler": 0, **own})
        return len(self.textures) - 1

    def _view(self, data: bytes, target: int | None = None) -> int:
        self.views.append({"buffer": 0, "byteOffset": self._append(data), "byteLength": len(data)})
        if target is not None:
            self.views[-1]["target"] = target
        return len(self.views) - 1

    def _append(self, data: bytes) -> int:
        start = len(self.data)
        self.data += data + b"\0" * (-len(data) % 4)
        return start

    def _accessor(self, values: np.ndarray) -> int:
        """For (N,) indices or (N, 2 to 4) float32 values."""
        target = _INDEX_BUFFER if values.ndim == 1 else _VERTEX_BUFFER
        accessor: dict[str, Any] = {"bufferView": self._view(values.tobytes(), target), "count": len(values)}
        if values.ndim == 1:
            accessor |= {"componentType": _UNSIGNED_INT, "type": "SCALAR"}
        else:
            accessor |= {"componentType": _FLOAT, "type": f"VEC{values.shape[1]}"}
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def _add_packed(
        self, attributes: dict[str, np.ndarray], faces: Int[np.ndarray, "F 3"]
    ) -> tuple[dict[str, Any], dict[str, int], int]:
        """Where the node puts its mesh, the attributes' accessors, and that of the indices."""
        meshopt = meshopt_encoder()
        indices, place, used = meshopt.reorder_mesh(faces.astype(np.uint32).reshape(-1), triangles=True, optsize=False)
        order = np.empty(used, np.int64)
        kept = place < used
        order[place[kept]] = np.flatnonzero(kept)
        low = attributes["POSITION"].astype(np.float64).min(0)
        scale = float((attributes["POSITION"].astype(np.float64).max(0) - low).max()) or 1.0
        accessors = {}
        for name, values in attributes.items():
            rows = values[order].astype(np.float64)
            if name in ("NORMAL", "TANGENT"):
                four = np.ones((len(rows), 4), np.float32)
                four[:, : rows.shape[1]] = rows
                accessors[name] = self._compressed(
                    np.asarray(meshopt.encode_filter_oct(four, 4, 8)).view(np.int8).reshape(-1, 4),
                    "OCTAHEDRAL",
                    _BYTE,
                    rows.shape[1],
                )
                continue
            shares = (rows - low) / scale if name == "POSITION" else rows
            whole = np.zeros((len(rows), 2 if rows.shape[1] == 2 else 4), "<u2")
            whole[:, : rows.shape[1]] = np.round(shares.clip(0, 1) * 65535)
            accessors[name] = self._compressed(whole, "NONE", _UNSIGNED_SHORT, rows.shape[1])
            if name == "POSITION":
                least, most = whole[:, :3].min(0).tolist(), whole[:, :3].max(0).tolist()
                self.accessors[accessors[name]] |= {"min": least, "max": most}
        short = used <= 1 << 16
        flat = np.asarray(indices).astype("<u2" if short else "<u4")
        number = self._compressed(flat.reshape(-1, 1), "TRIANGLES", _UNSIGNED_SHORT if short else _UNSIGNED_INT, 1)
        return {"translation": low.tolist(), "scale": [scale] * 3}, accessors, number

    def _compressed(self, rows: np.ndarray, how: str, component: int, columns: int) -> int:
        """An accessor of compressed rows, which are given as they are to be stored: padded, filtered."""
        triangles = how == "TRIANGLES"
        stride = rows.shape[1] * rows.itemsize
        data = pack_meshopt(rows, "TRIANGLES" if triangles else "ATTRIBUTES")
        extension: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": self._append(data),
            "byteLength": len(data),
            "byteStride": stride,
            "count": len(rows),
            "mode": "TRIANGLES" if triangles else "ATTRIBUTES",
        }
        if how == "OCTAHEDRAL":
            extension["filter"] = how
        view: dict[str, Any] = {"buffer": 1, "byteOffset": self.unpacked, "byteLength": rows.nbytes}
        if not triangles:
            view["byteStride"] = stride
        view["target"] = _INDEX_BUFFER if triangles else _VERTEX_BUFFER
        self.views.append(view | {"extensions": {"EXT_meshopt_compression": extension}})
        self.unpacked += rows.nbytes + -rows.nbytes % 4
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "count": len(rows),
            "componentType": component,
            "type": "SCALAR" if triangles else f"VEC{columns}",
        }
        if not triangles:
            accessor["normalized"] = True
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _attributes(surface: Surface) -> tuple[dict[str, np.ndarray], Int[np.ndarray, "F 3"]]:
    """The vertices' attributes, split where the texture has a seam, and the faces."""
    mesh, texture = surface.mesh, surface.texture
    vertices = mesh.vertices.detach().cpu().float().numpy() + np.float32(0)  # -0 and 0 become the same bytes
    faces = mesh.faces.detach().cpu().numpy()
    attributes: dict[str, np.ndarray] = {"POSITION": vertices, "NORMAL": unit_normals(mesh)}
    if texture is not None:
        corners, places = texture.corners.cpu().numpy().reshape(-1), len(texture.uv)
        pairs, _, index = distinct(faces.reshape(-1) * places + corners, len(mesh.vertices) * places)
        attributes = {name: values[pairs // places] for name, values in attributes.items()}
        attributes["TEXCOORD_0"] = texture.uv.detach().cpu().numpy()[pairs % places]
        faces = index.reshape(-1, 3)
        if surface.normal_map is not None:
            attributes["TANGENT"] = tangents(
                attributes["POSITION"].astype(np.float64),
                attributes["NORMAL"],
                attributes["TEXCOORD_0"].astype(np.float64),
                faces,
            )
    elif mesh.colors is not None:
        attributes["COLOR_0"] = srgb_to_linear(mesh.colors.detach().cpu().double().clamp(0, 1).numpy())
    return attributes, faces


def unit_normals(mesh: Mesh) -> Float[np.ndarray, "N 3"]:
    """Smooth unit normals, in float64; up where a vertex has no face, which needs one all the same."""
    normals = vertex_normals(mesh.vertices.detach().cpu().double(), mesh.faces.cpu()).numpy()
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 1, 0)
    return normals + 0.0


def _webp(pixels: UInt8[Tensor, "H W 3"]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(data, "WEBP", quality=_WEBP_QUALITY, method=4)
    return data.getvalue()
