"""The prism as glTF whose buffer views are compressed: with Draco, and with meshoptimizer by its own programs.

The compressed bytes were made of the prism by `gltfpack` 1.3 (-noq -c, -noq -cz -ce khr, -vpf -vp 16 -cc, and with red
vertices -vpf -vp 16 -cz -ce khr), those of `INDICES` by the npm package `meshoptimizer` 1.3, for which the decoder that
kiss3d calls is another build.
"""

# ruff: noqa: E501  (rows of a table, each with its whole file)

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any

from scene_files import Case
from solids import LOWER, TRIANGLES, UPPER, Gltf, srgb

EXT, KHR = "EXT_meshopt_compression", "KHR_meshopt_compression"
POSITIONS = {
    (
        "NONE",
        0,
    ): "oAAAAQ88zABgX2BAP0ABDzhIAAMEAwAAATPMwACAf4B/wAEAAIAAAAABAwM/AH+Af4B/AQMDPwD//////wAAAAAAAAAAAAAAAAAAAAAAAAAAAABQQAAAwD8AAAC+",
    ("NONE", 1): "oWlaaQAsAAcHBwBsBO3t7RISAFoBgH+Af8AAAAECAQICqgAAiA8DAwMDAwMAAAAAAAAAAAAAAFBAAADAPwAAAL5CACI=",
    ("EXPONENTIAL", 0): "oAABDzwMAIB/gIB/AAAAATPMwAB/gH+AgAAAAAABAgGZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADQAPIAYADyAMD/7w==",
    ("EXPONENTIAL", 1): "oaaamgBsBIB/gIB/ARFEwAADAQIBmQAAAAAAAAAAAAAA0ADyAGAA8gDA/+8AIgA=",
}
TRIANGLES_OF = {
    0: "4fAgAAIwA5AB4AGQECADMbARJiIGAHaHVmd4qYZliWiYAWkAAA==",
    1: "4fAgAAIQEgAWABUgAzAXIAUQEikSAHaHVmd4qYZliWiYAWkAAA==",
}
RED_VERTICES = "oaoAAAAAAAAAAAAAAAAAAAAAAAAAQH/B/wA="
INDICES = "0QgCAgwCBhACChQCDhgEBAYIBAoMBA4QBCoEGBocAhIEGBocAhIEGBocAhIEGBocAhIEGBocAhISGAIEFAAAAAA="


def packed(
    name: str, kind: str = "NONE", version: int = 0, *, required: bool = True, colored: bool = False
) -> tuple[Gltf, list[dict[str, Any]]]:
    """The file and its extensions' objects: positions, triangles, colours."""
    gltf, found = Gltf(), []

    def compressed(data: bytes, stride: int, count: int, mode: str, **more: Any) -> dict[str, Any]:
        source = gltf.root["bufferViews"][gltf.view(data)]
        gltf.root["bufferViews"].remove(source)
        found.append({**source, "byteStride": stride, "count": count, "mode": mode, **more})
        view = {"buffer": 1, "byteLength": stride * count, "extensions": {name: found[-1]}}
        gltf.root["bufferViews"].append(view | ({"byteStride": stride} if mode == "ATTRIBUTES" else {}))
        return {"bufferView": len(gltf.root["bufferViews"]) - 1, "count": count}

    more = {} if kind == "NONE" else {"filter": kind}
    indices = TRIANGLES_OF[int((kind, version) != ("NONE", 0))]  # that file's vertices have an order of their own
    gltf.root["accessors"] = [
        compressed(b64decode(POSITIONS[kind, version]), 12, 12, "ATTRIBUTES", **more)
        | {"componentType": 5126, "type": "VEC3", "min": LOWER.tolist(), "max": UPPER.tolist()},
        compressed(b64decode(indices), 2, 60, "TRIANGLES") | {"componentType": 5123, "type": "SCALAR"},
    ]
    attributes = {"POSITION": 0}
    if colored:
        color = compressed(b64decode(RED_VERTICES), 4, 12, "ATTRIBUTES", filter="COLOR")
        gltf.root["accessors"].append(color | {"componentType": 5121, "type": "VEC4", "normalized": True})
        attributes["COLOR_0"] = 2
    gltf.root["meshes"] = [{"primitives": [{"attributes": attributes, "indices": 1}]}]
    gltf.root["extensionsUsed"] = [name]
    if required:
        gltf.root["extensionsRequired"] = [name]
    return gltf, found


def glb(gltf: Gltf) -> bytes:
    """With a second buffer, that of the uncompressed data, which is not there."""
    gltf.root["buffers"] = [{"byteLength": 1000}]
    return gltf.glb()


def packed_files() -> dict[str, Callable[[], Case]]:
    """Files that are read with the decoders, and those that are refused although the decoders are there."""

    def good(*options: Any, color: Any = None, **more: Any) -> Callable[[], Case]:
        return lambda: Case({"a.glb": glb(packed(*options, **more)[0])}, color)

    def bad(words: str, index: int = 0, **changes: Any) -> Callable[[], Case]:
        def make() -> Case:
            gltf, extensions = packed(EXT)
            extensions[index].update(changes)
            return Case({"a.glb": glb(gltf)}, refused=words)

        return make

    def indices() -> Case:
        gltf = Gltf()
        gltf.prism()
        data = b64decode(INDICES)
        view = gltf.root["bufferViews"][gltf.view(data)]
        extension = {**view, "byteStride": 2, "count": TRIANGLES.size, "mode": "INDICES"}
        view.update(buffer=1, byteOffset=0, byteLength=2 * TRIANGLES.size, extensions={EXT: extension})
        accessor = {"bufferView": len(gltf.root["bufferViews"]) - 1, "componentType": 5123, "type": "SCALAR"}
        gltf.root["accessors"].append(accessor | {"count": TRIANGLES.size})
        gltf.root["meshes"][0]["primitives"][0]["indices"] = len(gltf.root["accessors"]) - 1
        gltf.root["extensionsRequired"] = [EXT]
        return Case({"a.glb": glb(gltf)})

    def damaged() -> Case:
        gltf, _ = packed(EXT)
        gltf.binary[:1] = b"\x77"
        return Case({"a.glb": glb(gltf)}, refused="EXT_meshopt_compression data are damaged")

    nearly_red = (srgb(254 / 255), srgb(1 / 255), 0.0)  # as that module's own decoder has it
    layout, size = "a layout that there is not", "not of the size that its buffer view declares"
    return {
        "meshopt": good(EXT), "meshopt, KHR": good(KHR, "NONE", 1), "meshopt, exponents": good(EXT, "EXPONENTIAL"),
        "meshopt, nearly red": good(KHR, "EXPONENTIAL", 1, colored=True, color=nearly_red),
        "meshopt, not said to be required": good(EXT, required=False), "meshopt, indices": indices,
        "meshopt damaged": damaged, "meshopt cut off": bad("data are damaged", byteLength=20),
        "meshopt of no mode": bad(layout, mode="x"), "meshopt of no filter": bad(layout, filter="COLOR"),
        "meshopt with an odd stride": bad(layout, byteStride=13), "meshopt of too few": bad(size, count=11),
        "meshopt of no triangles": bad(layout, 1, count=59), "meshopt past its buffer": bad("past the end", byteLength=9999),
        "meshopt of another mode": bad("damaged", 1, mode="INDICES"), "meshopt of a giant": bad("size", count=10**12),
    }  # fmt: skip
