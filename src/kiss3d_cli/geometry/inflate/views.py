"""Pictures of an inflated silhouette in the colours of the picture that it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.inflate.inflate import Inflated
from kiss3d_cli.geometry.inflate.sheet_colors import SheetColors
from kiss3d_cli.geometry.mesh import vertex_normals
from kiss3d_cli.geometry.render import render_shaded


@dataclass(frozen=True)
class ShownSurface:
    """
    Attributes:
        views: (V, H, W, 3) on white, sRGB-encoded, in [0, 1].
        vertices: (N, 3) colours of the vertices, coarser than the views where the vertices are few.
    """

    views: Float[Tensor, "V H W 3"]
    vertices: Float[Tensor, "N 3"]


def show_surface(
    surface: Inflated,
    rgb: Float[Tensor, "S S 3"],
    alpha: Float[Tensor, "S S"],
    cameras: Cameras,
    size: tuple[int, int],
    colors: SheetColors | None = None,
) -> ShownSurface:
    """The colours are looked up for every pixel, so that they are as sharp as the picture on any triangles.

    Not antialiased: what white is mixed into could not be painted back onto a wire of two pixels.

    Args:
        surface: of `alpha`.
        rgb: the picture, sRGB-encoded, in [0, 1], not multiplied by alpha.
        alpha: coverage, in [0, 1].
        cameras: the first is the one that saw the picture.
        size: (H, W) of the views, in pixels.
        colors: of `rgb` and `alpha`, where they are known.
    """
    mesh = surface.mesh
    known = colors or SheetColors(rgb.double().numpy(), alpha.double().numpy())
    towards = normalize(cameras.centers[0] - mesh.vertices, dim=-1)
    facing = (vertex_normals(mesh.vertices, mesh.faces) * towards).sum(-1, keepdim=True)
    attributes = torch.cat([torch.from_numpy(surface.on_picture).to(facing), facing], 1)

    def shade(found: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        values = found.double().numpy()
        return torch.from_numpy(known.at(values[:, :2], values[:, 2])).float()

    views = render_shaded(mesh, attributes, shade, cameras, size).colors
    return ShownSurface(views, shade(attributes))
