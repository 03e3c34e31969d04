"""Normal maps from pictures of normals: the detail that they hold and the mesh does not.

The mesh follows the pictures' normals as far as its vertices and its smoothing allow. What is left in the difference of
the two is detail finer than that, noise, and the large-scale error of predicted normals, which disagree between views.
Only the first belongs on the surface: the difference is high-passed, and what is no larger than the rounding of the
pictures' bytes is taken away.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.silhouette import depth_inside
from kiss3d_cli.geometry.texture.bake import TEXELS_AT_ONCE
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.project import MARGIN, RESOLUTION, Photographs, Projector
from kiss3d_cli.geometry.texture.texture import Texture
from kiss3d_cli.geometry.texture.transfer import from_tangent_space, in_tangent_space, normal_map_of, texels_of

_LARGE = 1 / 64
"""Standard deviation of the Gaussian above whose scale the mesh is right, as a share of the picture's side."""
_ROUNDING = 2 / 255
"""Length below which a difference between normals is that of their bytes: one of their steps."""


def detail(
    mesh: Mesh,
    cameras: Cameras,
    normals: Float[Tensor, "V S S 3"],
    masks: Bool[Tensor, "V S S"],
    weights: Float[Tensor, " V"],
) -> Photographs:
    """What is to be added to the mesh's unit normals, as pictures of vectors in the world.

    Args:
        normals: unit normals in each camera's space; anything outside the masks.
        masks: where the object is.
        weights: how much each view counts.
    """
    size = masks.shape[1]
    shown = render_normals(mesh, cameras, (size, size), antialiased=False)
    both = masks & (shown.mask > 0)
    difference = torch.where(both[..., None], normalize(normals, dim=-1) - normalize(shown.normals, dim=-1), 0)
    # within the margin no view counts: there the two outlines differ by a fraction of a pixel
    clear = np.stack([_eroded(view, MARGIN[0] * size / RESOLUTION) for view in both.cpu().numpy()])
    fine = torch.from_numpy(_high_pass(difference.cpu().numpy(), clear, _LARGE * size)).to(normals)
    length = fine.norm(dim=-1, keepdim=True)
    fine = fine * (1 - _ROUNDING / length.clamp_min(1e-12)).clamp_min(0)
    return Photographs(cameras, cameras.normals_to_world(fine), torch.from_numpy(clear).to(masks.device), weights)


def strength(found: Photographs) -> float:
    """Degrees by which the detail turns the normals of what the pictures show, on average."""
    if not bool(found.masks.any()):
        return 0.0
    return float(torch.rad2deg(2 * torch.asin(found.images[found.masks].norm(dim=-1).clamp_max(2) / 2)).mean())


def with_detail(
    mesh: Mesh, texture: Texture, found: Photographs, size: int, before: UInt8[Tensor, "H W 3"] | None = None
) -> UInt8[Tensor, "S S 3"]:
    """The normal map of a mesh with that detail; (0.5, 0.5, 1), or what it was, where no picture shows any.

    Args:
        mesh: on the CPU, with one vertex for every position: the mesh of the detail, or one of nearly the same shape.
        texture: its coordinates.
        found: blended by the weights of the colours (`project.py`).
        size: pixels a side.
        before: the map so far, of that size.

    Raises:
        BadInput: no face is large enough for the texture.
    """
    texels = texels_of(mesh, Atlas(texture.uv, texture.corners, 1), size)
    projector = Projector(mesh, found)
    if before is None:
        own = torch.tensor([0.0, 0, 1]).expand(len(texels.places), 3)
    else:
        own = before[torch.from_numpy(texels.inside)].float() / 255 * 2 - 1
    values = own.clone()

    def turn(part: Int[Tensor, " P"]) -> None:
        seen = projector.look(texels.places[part], texels.normals[part])
        up, along = texels.normals[part], texels.tangents[part]
        normal = from_tangent_space(own[part], up, along) + seen.trust[:, None] * seen.colors
        turned = in_tangent_space(normalize(normal, dim=1), up, along)
        values[part] = torch.where(seen.colors.any(1, keepdim=True), turned, own[part])

    side_by_side(turn, torch.arange(len(values)).split(TEXELS_AT_ONCE), values.device)
    return normal_map_of(texels, values)


def _eroded(mask: Bool[np.ndarray, "S S"], pixels: float) -> Bool[np.ndarray, "S S"]:
    return depth_inside(np.pad(mask, 1))[1:-1, 1:-1] > pixels


def _high_pass(
    pictures: Float[np.ndarray, "V S S 3"], inside: Bool[np.ndarray, "V S S"], deviation: float
) -> Float[np.ndarray, "V S S 3"]:
    """Less the Gaussian mean of what lies inside (normalised convolution: Knutsson and Westin 1993)."""
    found = np.zeros_like(pictures)
    for view, (picture, where) in enumerate(zip(pictures, inside, strict=True)):
        weight = where.astype(np.float32)
        mean = cv2.GaussianBlur(picture * weight[..., None], (0, 0), deviation)
        mean /= np.maximum(cv2.GaussianBlur(weight, (0, 0), deviation), 1e-6)[..., None]
        found[view] = (picture - mean) * weight[..., None]
    return found
