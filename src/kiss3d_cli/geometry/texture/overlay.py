"""Projection of a photograph onto an existing texture, at the photograph's resolution."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.geometry.texture.bake import TEXELS_AT_ONCE
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.gutter import with_gutters
from kiss3d_cli.geometry.texture.project import Photographs, Projector
from kiss3d_cli.geometry.texture.texture import Texture
from kiss3d_cli.geometry.texture.transfer import texels_of

_GRAZING, _FULL = 0.1, 0.25
"""Cosines between the surface's normal and the way to the camera at which the photograph begins to count, and counts
alone. A pixel is stretched over four texels there; those nearer to the outline are mixed with what lies behind, and
would be smeared over the sides."""


def side_for(mesh: Mesh, texture: Texture, photographs: Photographs) -> int:
    """Pixels a side of a texture in which faces that look at the first camera have a texel for each of its pixels."""
    camera, pixels = photographs.cameras[[0]], photographs.images.shape[1]
    clip = camera.clip(mesh.vertices)[0]
    places = (clip[:, :2] / clip[:, 3:] * (pixels / 2))[mesh.faces]
    normals = torch.nn.functional.normalize(face_normals(mesh.vertices, mesh.faces), dim=1)
    towards = torch.nn.functional.normalize(camera.centers[0] - mesh.vertices[mesh.faces].mean(1), dim=1)
    facing = (normals * towards).sum(1) > 0.5
    shown, painted = _areas(places)[facing].sum(), _areas(texture.uv[texture.corners])[facing].sum()
    return int(torch.ceil(torch.sqrt(shown / painted.clamp_min(1e-12))))


def overlay(mesh: Mesh, texture: Texture, photographs: Photographs, size: int) -> Texture:
    """The texture at another size, painted anew where the photographs show the mesh.

    Args:
        mesh: on the CPU, with one vertex for every position.
        texture: of that mesh, without overlapping faces.
        photographs: exact ones count up to the outline.
        size: pixels a side.

    Raises:
        BadInput: no face is large enough for the texture.
    """
    before = Image.fromarray(texture.image.numpy())
    if before.size != (size, size):
        before = before.resize((size, size), Image.Resampling.LANCZOS)
    image = torch.from_numpy(np.array(before)).float().reshape(-1, 3) / 255
    atlas = Atlas(texture.uv, texture.corners, 1)
    texels = texels_of(mesh, atlas, size)
    covered = torch.from_numpy(np.flatnonzero(texels.inside))
    projector = Projector(mesh, photographs)

    def paint(part: Int[Tensor, " P"]) -> None:
        seen = projector.look(texels.places[part], texels.normals[part])
        where = covered[part]
        share = _share(seen.weight)[:, None]
        image[where] = torch.lerp(image[where], seen.colors, share)

    side_by_side(paint, torch.arange(len(covered)).split(TEXELS_AT_ONCE), covered.device)
    painted = (image.clamp(0, 1) * 255).round().to(torch.uint8).reshape(size, size, 3).numpy()
    filled = with_gutters(painted, texels.inside, mesh, atlas)
    return Texture(texture.uv, texture.corners, torch.from_numpy(filled))


def _share(weight: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """How much the photographs count, of the sum of their squared cosines."""
    return ((weight.sqrt() - _GRAZING) / (_FULL - _GRAZING)).clamp(0, 1)


def _areas(corners: Float[Tensor, "F 3 2"]) -> Float[Tensor, " F"]:
    a, b, c = corners.unbind(1)
    (x, y), (z, w) = (b - a).unbind(1), (c - a).unbind(1)
    return (x * w - y * z).abs() / 2
