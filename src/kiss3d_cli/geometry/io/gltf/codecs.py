"""Compressed meshes, through the decoders of Draco and meshoptimizer: optional packages."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.geometry.io.gltf.document import Document


def unpack_draco(
    document: Document, extension: dict[str, Any], vertices: int, indices: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The attributes of a primitive by name, and its (F, 3) faces (KHR_draco_mesh_compression).

    Args:
        extension: the primitive's.
        vertices, indices: how many its accessors declare.

    Raises:
        Missing: the decoder is not installed.
        BadInput: the data are damaged, or are not what the accessors declare.
    """
    if find_spec("DracoPy") is None:
        raise Missing(
            "its geometry is compressed with Draco, and the decoder DracoPy is not installed",
            place=str(document.source.path),
            hint="pip install 'kiss3d[draco]', or export it without compression",
        )
    import DracoPy

    data = bytes(document.view(extension.get("bufferView"))[0])
    document.source.claim(vertices, 64, "vertices")
    document.source.claim(indices, 8, "corners")
    try:
        decoded = DracoPy.decode(data)
        faces = np.asarray(decoded.faces, np.int64).reshape(-1, 3)
        by_id = {entry["unique_id"]: np.asarray(entry["data"]) for entry in decoded.attributes}
    except Exception as error:  # the decoder raises several kinds for damaged data
        raise document.wrong("its Draco data are damaged") from error
    attributes: dict[str, np.ndarray] = {}
    for name, identity in document.object(extension, "attributes").items():
        values = by_id.get(identity) if type(identity) is int else None
        if values is None or values.ndim != 2 or len(values) != vertices:
            raise document.wrong(f"its Draco data do not hold {name[:20]} as its accessor declares")
        attributes[name] = values
    if "POSITION" not in attributes or attributes["POSITION"].shape[1] != 3 or faces.size != indices:
        raise document.wrong("its Draco data are not what its accessors declare")
    return attributes, faces


_STRIDES: dict[tuple[str, str], tuple[int, ...]] = {
    ("ATTRIBUTES", "NONE"): tuple(range(4, 257, 4)),
    ("ATTRIBUTES", "EXPONENTIAL"): tuple(range(4, 257, 4)),
    ("ATTRIBUTES", "OCTAHEDRAL"): (4, 8),
    ("ATTRIBUTES", "QUATERNION"): (8,),
    ("ATTRIBUTES", "COLOR"): (4, 8),
    ("TRIANGLES", "NONE"): (2, 4),
    ("INDICES", "NONE"): (2, 4),
}


def unpack_meshopt(document: Document, view: dict[str, Any], extension: dict[str, Any], name: str) -> bytes:
    """The bytes of a buffer view that meshoptimizer has compressed (EXT_ and KHR_meshopt_compression).

    Args:
        view: the buffer view.
        extension: its extension of that name.
        name: for messages.

    Raises:
        Missing: the decoder is not installed.
        BadInput: the data are damaged, or are not what the view declares.
    """
    if find_spec("meshopt") is None:
        raise Missing(
            f"its geometry is compressed with meshoptimizer ({name}), and the decoder meshopt is not installed",
            place=str(document.source.path),
            hint="pip install 'kiss3d[meshopt]', or decompress it: npx @gltf-transform/cli copy in.glb out.glb",
        )
    import meshopt

    mode, kind = str(extension.get("mode")), str(extension.get("filter", "NONE"))
    stride, count = document.integer(extension, "byteStride"), document.integer(extension, "count")
    if stride not in _STRIDES.get((mode, kind), ()) or (mode == "TRIANGLES" and count % 3):
        raise document.wrong(f"its {name} has a layout that there is not")
    if stride * count != document.integer(view, "byteLength") or view.get("byteStride", stride) != stride:
        raise document.wrong(f"its {name} is not of the size that its buffer view declares")
    data = document.slice(extension, f"its {name}")
    document.source.claim(count, 2 * stride, "values")
    try:
        return meshopt.decode_gltf_buffer(bytes(data), count, stride, mode, kind).tobytes()
    except ValueError as error:
        raise document.wrong(f"its {name} data are damaged") from error


def meshopt_encoder() -> Any:
    """The module meshopt.

    Raises:
        Missing: it is not installed.
    """
    if find_spec("meshopt") is None:
        raise Missing(
            "meshoptimizer's encoder, the package meshopt, is not installed",
            hint="pip install 'kiss3d[export]'",
        )
    import meshopt

    return meshopt


def pack_meshopt(rows: np.ndarray, mode: Literal["ATTRIBUTES", "TRIANGLES"]) -> bytes:
    """Rows as EXT_meshopt_compression stores them.

    Raises:
        Missing: the encoder is not installed.
    """
    meshopt = meshopt_encoder()
    data = rows.reshape(-1) if mode == "TRIANGLES" else rows
    return bytes(meshopt.encode_gltf_buffer(np.ascontiguousarray(data), mode))
