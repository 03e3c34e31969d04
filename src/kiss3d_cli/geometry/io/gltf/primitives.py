"""A glTF mesh's primitives: their triangles, morphed and posed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from kiss3d_cli.geometry.io.gltf.accessors import accessor_count, read_accessor
from kiss3d_cli.geometry.io.gltf.codecs import unpack_draco
from kiss3d_cli.geometry.io.gltf.document import Document
from kiss3d_cli.geometry.io.part import no_faces
from kiss3d_cli.geometry.io.strips import fan_triangles, strip_triangles

_TRIANGLES, _STRIP, _FAN = 4, 5, 6


@dataclass
class Primitive:
    """A primitive in its mesh's frame.

    Attributes:
        positions: (N, 3).
        faces: (F, 3); none for points and lines.
        attributes: the other attributes by name, (N, C) each, for the same vertices.
        material: its index, or None.
    """

    positions: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "F 3"]
    attributes: dict[str, np.ndarray]
    material: Any


def read_primitive(document: Document, entry: dict[str, Any], weights: list[Any]) -> Primitive:
    """Read one primitive with its morph targets applied (section 3.7.2.2).

    Raises:
        BadInput: its accessors do not fit together.
    """
    mode = document.integer(entry, "mode", _TRIANGLES)
    accessors = document.object(entry, "attributes")
    if "POSITION" not in accessors:
        raise document.wrong("a primitive has no positions")
    count = accessor_count(document, accessors["POSITION"])
    draco = document.extension(entry, "KHR_draco_mesh_compression")
    unpacked: dict[str, np.ndarray] = {}
    faces = no_faces()
    if draco is not None and mode in (_TRIANGLES, _STRIP):
        indices = accessor_count(document, entry.get("indices"))
        unpacked, faces = unpack_draco(document, draco, count, indices)
    elif mode in (_TRIANGLES, _STRIP, _FAN):
        faces = _faces(document, entry, mode, count)
    document.source.claim(count, 48, "vertices")
    document.source.claim(len(faces), 48, "faces")
    if len(faces) and int(faces.max()) >= count:
        raise document.wrong(f"a face names vertex {int(faces.max())}, but there are {count} vertices")
    values = {
        name: _normalise_draco(document, accessors[name], unpacked[name]) if name in unpacked
        else read_accessor(document, accessors[name], (1, 2, 3, 4), name[:20])
        for name in accessors
        if _is_read(name)
    }  # fmt: skip
    if any(len(array) != count for array in values.values()) or values["POSITION"].shape[1] != 3:
        raise document.wrong("a primitive's attributes are not of the same number of vertices")
    _morph(document, document.array(entry, "targets"), weights, values)
    positions = values.pop("POSITION")
    if positions.dtype.kind != "f":
        positions = positions.astype(np.float64)
    return Primitive(positions, faces, values, entry.get("material"))


def _is_read(name: str) -> bool:
    return name == "POSITION" or name.startswith(("TEXCOORD_", "COLOR_0", "JOINTS_", "WEIGHTS_"))


def _normalise_draco(document: Document, accessor: Any, values: np.ndarray) -> np.ndarray:
    """Draco stores integers as they are; what they mean says the accessor."""
    normalized = document.entry("accessors", accessor).get("normalized") is True
    if normalized and values.dtype.kind in "iu":
        return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1.0)
    return values


def _faces(document: Document, entry: dict[str, Any], mode: int, count: int) -> Int[np.ndarray, "F 3"]:
    if "indices" in entry:
        row = read_accessor(document, entry["indices"], (1,), "indices")[:, 0]
        if row.dtype.kind != "u":
            raise document.wrong("a primitive's indices are not whole numbers")
    else:
        document.source.claim(count, 8, "vertices")
        row = np.arange(count)
    if mode == _STRIP:
        document.source.claim(len(row), 72, "corners")
        return strip_triangles(row)
    if mode == _FAN:
        document.source.claim(len(row), 72, "corners")
        return fan_triangles(row)
    if len(row) % 3:
        raise document.wrong(f"a primitive has {len(row)} corners, which are no triangles")
    return row.astype(np.int64).reshape(-1, 3)


def _morph(document: Document, targets: list[Any], weights: list[Any], values: dict[str, np.ndarray]) -> None:
    if not targets or not weights:
        return
    if len(weights) != len(targets) or any(type(w) not in (int, float) or not abs(w) < 1e300 for w in weights):
        raise document.wrong("a mesh has not as many morph weights as targets")
    for weight, target in zip(weights, targets, strict=True):
        if not isinstance(target, dict):
            raise document.wrong("a morph target is not an object")
        for name in ("POSITION", "COLOR_0"):
            if weight and name in target and name in values:
                change = read_accessor(document, target[name], (3, 4), f"a morph target's {name}")
                if change.shape != values[name].shape:
                    raise document.wrong("a morph target has not as many vertices as its primitive")
                values[name] = values[name].astype(np.float64) + weight * change.astype(np.float64)


def posed(
    document: Document, primitive: Primitive, joints: Float[np.ndarray, "J 4 4"]
) -> tuple[Float[np.ndarray, "N 3"], bool]:
    """Positions moved by their joints, and whether that mirrors them (section 3.7.3.3)."""
    total = np.zeros((len(primitive.positions), 4, 4))
    document.source.claim(len(primitive.positions), 256, "vertices")
    sums = np.zeros(len(primitive.positions))
    for number in range(8):
        index = primitive.attributes.get(f"JOINTS_{number}")
        weight = primitive.attributes.get(f"WEIGHTS_{number}")
        if index is None or weight is None:
            break
        if index.shape != weight.shape or index.dtype.kind != "u" or int(index.max()) >= len(joints):
            raise document.wrong("a skinned primitive names a joint that its skin does not have")
        for column in range(index.shape[1]):
            share = weight[:, column].astype(np.float64)
            used = share != 0
            total[used] += share[used, None, None] * joints[index[used, column]]
            sums += share
    if not (np.isfinite(sums).all() and (sums > 1e-6).all()):
        raise document.wrong("a skinned primitive has vertices that no joint moves")
    total /= sums[:, None, None]
    positions = np.einsum("nij,nj->ni", total[:, :3, :3], primitive.positions.astype(np.float64)) + total[:, :3, 3]
    mirrored = bool((np.linalg.det(total[:, :3, :3]) < 0).all())
    return positions, mirrored
