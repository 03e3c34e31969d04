"""Triangle meshes as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the world frame (right-handed, y up, front +z).

    Attributes:
        vertices: (N, 3) positions.
        faces: (F, 3) int64 vertex indices, counter-clockwise seen from outside.
        colors: (N, 3) sRGB-encoded vertex colours in [0, 1], or None.
    """

    vertices: Float[Tensor, "N 3"]
    faces: Int[Tensor, "F 3"]
    colors: Float[Tensor, "N 3"] | None = None

    def to(self, device: torch.device | str) -> Mesh:
        colors = None if self.colors is None else self.colors.to(device)
        return Mesh(self.vertices.to(device), self.faces.to(device), colors)

    def with_vertices(self, vertices: Float[Tensor, "N 3"]) -> Mesh:
        return replace(self, vertices=vertices)

    def with_colors(self, colors: Float[Tensor, "N 3"] | None) -> Mesh:
        return replace(self, colors=colors)


def face_normals(vertices: Float[Tensor, "N 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3"]:
    """Face normals scaled by twice the face area (not unit length). Differentiable."""
    # index_select and not vertices[faces], whose backward adds in an order that depends on the number of threads
    a, b, c = vertices.index_select(0, faces.reshape(-1)).reshape(-1, 3, 3).unbind(1)
    return torch.linalg.cross(b - a, c - a, dim=-1)


def vertex_normals(vertices: Float[Tensor, "N 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "N 3"]:
    """Area-weighted unit vertex normals (N, 3); zero where a vertex has no face. Differentiable."""
    weighted = face_normals(vertices, faces)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner], weighted)
    return total / total.norm(dim=-1, keepdim=True).clamp_min(1e-20)


def steady_sum(values: Float[Tensor, ...]) -> Float[Tensor, ""]:
    """The sum of all values, added in the same order on any number of threads; torch's own splits long tensors."""
    flat = values.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 1024))
    return padded.reshape(-1, 1024).sum(1).sum()
