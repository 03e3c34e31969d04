"""An L-shaped prism, asymmetric and concave, in the forms that mesh files have; area 13, volume 2."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image

_OUTLINE = np.array([[0, 0], [3, 0], [3, 1], [1, 1], [1, 2], [0, 2]], dtype=np.float64)
VERTICES = np.array([[x + 0.25, y + 0.5, z - 0.125] for z in (0.0, 0.5) for x, y in _OUTLINE])  # exact in binary
LOWER, UPPER = VERTICES.min(0), VERTICES.max(0)
SIDES = [[i, (i + 1) % 6, 6 + (i + 1) % 6, 6 + i] for i in range(6)]
POLYGONS = [[5, 4, 3, 2, 1, 0], [6, 7, 8, 9, 10, 11], *SIDES]
CAP = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)]  # a fan from the corner that sees all of it
TRIANGLES = np.array(
    [(c, b, a) for a, b, c in CAP]
    + [(a + 6, b + 6, c + 6) for a, b, c in CAP]
    + [t for a, b, c, d in SIDES for t in ((a, b, c), (a, c, d))]
)
AREA, VOLUME = 13.0, 2.0
RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def linear(value: float) -> float:
    """sRGB to linear light, by the standard's formula."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def srgb(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def quarters() -> bytes:
    """A PNG: red and green above, blue and white below."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4], pixels[4:, 4:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Gltf:
    """A glTF that is put together piece by piece; the prism stands in mesh 0 at node 0 unless said otherwise."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.root: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [], "accessors": [], "bufferViews": [],
        }  # fmt: skip

    def view(self, data: bytes, **more: Any) -> int:
        self.root["bufferViews"].append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **more})
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(self.root["bufferViews"]) - 1

    def accessor(self, values: Any, kind: str, **more: Any) -> int:
        array = np.ascontiguousarray(values, kind)
        width = 1 if array.ndim == 1 else array.shape[1]
        number = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}[kind.lstrip("<")]
        shape = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[width]
        entry = {"bufferView": self.view(array.tobytes()), "componentType": number, "count": len(array), "type": shape}
        self.root["accessors"].append(entry | more)
        return len(self.root["accessors"]) - 1

    def prism(self, **attributes: int) -> dict[str, Any]:
        """A mesh of the prism; returns its primitive."""
        position = self.accessor(VERTICES, "<f4")
        primitive = {"attributes": {"POSITION": position, **attributes}}
        primitive["indices"] = self.accessor(TRIANGLES.reshape(-1), "<u2")
        self.root["meshes"].append({"primitives": [primitive]})
        return primitive

    def textured(self, info: dict[str, Any] | None = None, **base: Any) -> dict[str, Any]:
        """A material with `quarters` and whatever else; returns the material."""
        self.root["images"] = [{"bufferView": self.view(quarters()), "mimeType": "image/png"}]
        self.root["textures"] = [{"source": 0}]
        material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **(info or {})}, **base}}
        self.root["materials"] = [material]
        return material

    def document(self, uri: str | None = None) -> bytes:
        buffer = {"byteLength": len(self.binary)} | ({} if uri is None else {"uri": uri})
        return json.dumps(self.root | {"buffers": [buffer, *self.root.get("buffers", [])]}).encode()

    def glb(self) -> bytes:
        text = self.document()
        text += b" " * (-len(text) % 4)
        head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(self.binary))
        chunks = (struct.pack("<II", len(text), 0x4E4F534A), text, struct.pack("<II", len(self.binary), 0x004E4942))
        return head + b"".join(chunks) + bytes(self.binary)
