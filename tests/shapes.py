"""Shapes whose measures are known by hand."""

from __future__ import annotations

import numpy as np
import torch

from kiss3d_cli.export.model import Model
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture

_CUBE = [(0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4), (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6),
         (3, 0, 4), (3, 4, 7)]  # fmt: skip


def box(low: tuple[float, ...], high: tuple[float, ...]) -> Mesh:
    """Twelve faces, outside out."""
    (x, y, z), (X, Y, Z) = low, high
    corners = [(x, y, z), (X, y, z), (X, Y, z), (x, Y, z), (x, y, Z), (X, y, Z), (X, Y, Z), (x, Y, Z)]
    return Mesh(torch.tensor(corners, dtype=torch.float32), torch.tensor(_CUBE))


def together(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + int(offset) for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def ball(radius: float = 1.0, rings: int = 24, segments: int = 48) -> Mesh:
    """A sphere about the origin, its poles on y."""
    polar = np.pi * np.arange(1, rings) / rings
    turn = 2 * np.pi * np.arange(segments) / segments
    p, t = np.meshgrid(polar, turn, indexing="ij")
    rows = np.stack([np.sin(p) * np.sin(t), np.cos(p), np.sin(p) * np.cos(t)], -1).reshape(-1, 3)
    vertices = np.concatenate([rows, [[0, 1, 0], [0, -1, 0]]]) * radius
    faces = []
    north, south = len(rows), len(rows) + 1
    for j in range(segments):
        k = (j + 1) % segments
        faces.append((north, j, k))
        last = (rings - 2) * segments
        faces.append((south, last + k, last + j))
        for i in range(rings - 2):
            a, b, c, d = i * segments + j, i * segments + k, (i + 1) * segments + j, (i + 1) * segments + k
            faces += [(a, c, d), (a, d, b)]
    return Mesh(torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces))


def painted(points: torch.Tensor) -> torch.Tensor:
    """A colour for every place, smooth and different everywhere."""
    return (0.5 + 0.4 * torch.sin(2.5 * points + torch.tensor([0.0, 1.0, 2.0]))).float()


def corner_model() -> Model:
    """A tetrahedron without symmetry, y up, 2 units tall and 3 deep, each face with a place in a small picture."""
    mesh = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]),
        torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    )
    uv = torch.tensor([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])
    offsets = torch.tensor([[0.0, 0], [0.5, 0], [0, 0.5], [0.5, 0.5]])
    picture = torch.arange(32 * 32 * 3).reshape(32, 32, 3).remainder(251).to(torch.uint8)
    return Model(mesh, Texture((uv + offsets[:, None]).reshape(-1, 2), torch.arange(12).reshape(4, 3), picture))
