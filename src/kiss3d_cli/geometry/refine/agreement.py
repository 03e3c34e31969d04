"""Whether a mesh already matches the views, so that integration is unnecessary."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize

SHARE = 0.98
"""Of the mesh's pixels that must be in a view's mask, and of the mask's that must be within a pixel of the mesh's."""
DEGREES = 8.0
"""Between the normals, in the median over the views' pixels; 8 bits do a tenth of it, edges drawn softly the rest."""


def shows_already(mesh: Mesh, normals: Float[Tensor, "V S S 3"], mask: Bool[Tensor, "V S S"], cameras: Cameras) -> bool:
    """Whether the mesh has the views' silhouettes and normals, as that has from which they were rendered.

    Args:
        normals: camera-space unit normals.
        mask: where they count.
        cameras: one for each view.
    """
    size = (mask.shape[1], mask.shape[2])
    found = rasterize(cameras.clip(mesh.vertices), mesh.faces, size)
    # a soft edge makes a mask wider by a pixel
    near = _wider(_wider(found.mask, 1), 2)
    for inner, outer in ((found.mask, mask), (mask, near)):
        count = inner.flatten(1).sum(1)
        if bool(((inner & outer).flatten(1).sum(1) < SHARE * count).any()) or not bool(count.all()):
            return False
    both = found.mask & mask
    shown = cameras.normals_to_camera(vertex_normals(mesh.vertices, mesh.faces))
    cosine = torch.cosine_similarity(interpolate(shown, mesh.faces, found)[both], normals[both], dim=-1)
    return float(torch.rad2deg(cosine.clamp(-1, 1).acos()).median()) < DEGREES


def _wider(mask: Bool[Tensor, "V H W"], axis: int) -> Bool[Tensor, "V H W"]:
    """By a pixel to both sides along an axis."""
    found = mask.clone()
    count = mask.shape[axis] - 1
    found.narrow(axis, 1, count).logical_or_(mask.narrow(axis, 0, count))
    found.narrow(axis, 0, count).logical_or_(mask.narrow(axis, 1, count))
    return found
