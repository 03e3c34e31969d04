"""Removal of small components of an extracted surface."""

from __future__ import annotations

import torch

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.manifold import face_components


def keep_large_components(mesh: Mesh, share: float = 0.02) -> Mesh:
    """The components with at least this share of the largest one's faces, without the vertices of the others.

    Args:
        mesh: with at least one face.
        share: 0 keeps all, 1 the largest and those as large.
    """
    component = face_components(mesh.faces)
    count = torch.bincount(component)
    faces = mesh.faces[(count >= share * count.max())[component]]
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=faces.device)
    used[faces] = True
    number = used.cumsum(0) - 1
    return Mesh(mesh.vertices[used], number[faces], None if mesh.colors is None else mesh.colors[used])
