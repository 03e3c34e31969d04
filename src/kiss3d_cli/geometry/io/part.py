"""The pieces that a file's reader finds, and how they become one mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.mesh import Mesh


@dataclass
class Part:
    """One piece of geometry in the file's frame.

    Attributes:
        vertices: (N, 3), float32 or float64 as the file has them.
        faces: (F, 3) int64; none where the piece is a set of points.
        colors: (N, 3) sRGB-encoded in [0, 1], or None.
    """

    vertices: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "N 3"] | None = None

    def moved(self, matrix: Float[np.ndarray, "4 4"]) -> Part:
        """Moved by an affine matrix; a mirror turns the faces over, so that outside stays outside."""
        if np.array_equal(matrix, np.eye(4)):
            return self
        vertices = self.vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        return Part(vertices, self.faces[:, ::-1] if mirrored else self.faces, self.colors)


@dataclass(frozen=True)
class PointCloud:
    """Points of a surface without faces.

    Attributes:
        points: (N, 3).
        colors: (N, 3) sRGB-encoded in [0, 1], or None.
    """

    points: Float[torch.Tensor, "N 3"]
    colors: Float[torch.Tensor, "N 3"] | None = None


def no_faces() -> Int[np.ndarray, "0 3"]:
    return np.zeros((0, 3), dtype=np.int64)


def split_by_corner(
    faces: Int[np.ndarray, "F 3"], keys: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"], Int[np.ndarray, "F 3"]]:
    """One vertex for every pair of a vertex and a key, in the order of vertices and then keys.

    Args:
        faces: (F, 3) vertices.
        keys: (F, 3) non-negative numbers of what else the corner has.

    Returns:
        The vertex and the key of every new vertex, and (F, 3) the new vertices of the faces.
    """
    base = int(keys.max(initial=0)) + 1
    pairs, index = np.unique(faces * base + keys, return_inverse=True)
    return pairs // base, pairs % base, index.reshape(-1, 3)


def by_corner(part: Part, colors: Float[np.ndarray, "F 3 3"]) -> Part:
    """With a colour for every corner; a vertex is split where its corners have several."""
    distinct, number = np.unique(colors.reshape(-1, 3), axis=0, return_inverse=True)
    vertex, key, faces = split_by_corner(part.faces, number.reshape(-1, 3))
    return Part(part.vertices[vertex], faces, distinct[key])


def by_face(part: Part, colors: Float[np.ndarray, "F 3"]) -> Part:
    """With colours of the faces; a vertex is split where its faces have several."""
    return by_corner(part, np.repeat(colors[:, None], 3, 1))


def join(parts: list[Part], dtype: torch.dtype, source: Source) -> Mesh:
    """One mesh of all parts, in their order; with colours if every part has them."""
    colors = _joined_colors(parts, dtype, source)
    if len(parts) == 1:
        vertices, faces = parts[0].vertices, parts[0].faces
    else:
        offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
        vertices = np.concatenate([part.vertices for part in parts])
        faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets, strict=False)])
    return Mesh(torch.from_numpy(_own(vertices)).to(dtype), torch.from_numpy(_own(faces)), colors)


def cloud(parts: list[Part], dtype: torch.dtype, source: Source) -> PointCloud:
    """The points of all parts, in their order; with colours if every part has them."""
    points = np.concatenate([part.vertices for part in parts])
    return PointCloud(torch.from_numpy(points).to(dtype), _joined_colors(parts, dtype, source))


def _own(values: np.ndarray) -> np.ndarray:
    """Contiguous, writable and in this machine's byte order, as torch wants it."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return values if values.flags.writeable else values.copy()


def _joined_colors(parts: list[Part], dtype: torch.dtype, source: Source) -> torch.Tensor | None:
    painted = [part.colors for part in parts if part.colors is not None]
    if painted and len(painted) < len(parts):
        source.note(f"{len(parts) - len(painted)} of {len(parts)} parts have no colours, so none are used")
        return None
    if not painted:
        return None
    return torch.from_numpy(_own(np.concatenate(painted).clip(0, 1))).to(dtype)
