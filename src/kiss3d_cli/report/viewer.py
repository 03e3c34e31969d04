"""A mesh packed for the page's WebGL viewer: positions and texture coordinates in 16 bits, the rest in 8."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from kiss3d_cli.geometry.mesh import vertex_normals
from kiss3d_cli.geometry.surface.topology import weld
from kiss3d_cli.report.pictures import pixels_uri
from kiss3d_cli.report.shape import Shape

TEXTURE_SIDE = 2048


@dataclass(frozen=True)
class ViewerMesh:
    """
    Attributes:
        layout: JSON for viewer.js: counts, the box, and where every array begins, in bytes.
        data: the arrays, base64.
        texture: a data URI; None without a texture.
        modes: what the viewer can show, the best first: texture, colors, wireframe, normals, shaded, error.
    """

    layout: str
    data: str
    texture: str | None
    modes: tuple[str, ...]


def pack(shape: Shape, error_colors: Float[np.ndarray, "N 3"] | None = None) -> ViewerMesh:
    """Args: error_colors: of the mesh's vertices, for the mode `error`."""
    vertices = shape.mesh.vertices.numpy().astype(np.float64)
    faces = shape.mesh.faces.numpy()
    low = vertices.min(0)
    size = np.maximum(vertices.max(0) - low, 1e-9)
    arrays: dict[str, np.ndarray] = {"position": _shares((vertices - low) / size, np.uint16, 4)}
    arrays["normal"] = _signed(_smooth_normals(shape), 4)
    modes = []
    if shape.texture is not None:
        # one row of `uv` for each vertex: the mesh comes from a GLB, which splits vertices on seams
        arrays["uv"] = _shares(shape.texture.uv.numpy(), np.uint16, 2)
        modes.append("texture")
    elif shape.mesh.colors is not None:
        arrays["color"] = _shares(shape.mesh.colors.numpy(), np.uint8, 4)
        modes.append("colors")
    modes += ["shaded", "wireframe", "normals"]
    if error_colors is not None:
        arrays["error"] = _shares(error_colors, np.uint8, 4)
        modes.append("error")
    index = faces.reshape(-1).astype("<u2" if len(vertices) <= 2**16 else "<u4")
    layout: dict[str, Any] = {
        "vertices": len(vertices),
        "indices": len(index),
        "wide": index.itemsize == 4,
        "low": low.tolist(),
        "size": size.tolist(),
        "modes": modes,
        "at": {},
    }
    data = bytearray()
    for name, array in {**arrays, "index": index}.items():
        layout["at"][name] = len(data)
        data += array.tobytes()
        data += b"\0" * (-len(data) % 4)
    texture = None if shape.texture is None else pixels_uri(shape.texture.image.numpy(), TEXTURE_SIDE)
    packed = base64.b64encode(bytes(data)).decode("ascii")
    return ViewerMesh(json.dumps(layout, separators=(",", ":")), packed, texture, tuple(modes))


def _smooth_normals(shape: Shape) -> Float[np.ndarray, "N 3"]:
    """Vertex normals that do not see the texture's seams."""
    number = weld(shape.mesh.vertices.numpy().astype(np.float64))
    one_of = np.zeros(len(number), dtype=np.int64)
    one_of[number] = np.arange(len(number))
    same = torch.from_numpy(one_of[number])
    return vertex_normals(shape.mesh.vertices, same[shape.mesh.faces])[same].numpy()


def _shares(values: np.ndarray, kind: type[np.generic], columns: int) -> np.ndarray:
    """Values in [0, 1] as normalised integers, padded to `columns`."""
    largest = np.iinfo(kind).max  # type: ignore[type-var]
    whole = np.round(np.clip(values, 0, 1) * largest).astype(np.dtype(kind).newbyteorder("<"))
    return np.pad(whole, ((0, 0), (0, columns - whole.shape[1])))


def _signed(values: np.ndarray, columns: int) -> np.ndarray:
    whole = np.round(np.clip(values, -1, 1) * 127).astype(np.int8)
    return np.pad(whole, ((0, 0), (0, columns - whole.shape[1])))
