"""Pictures of a mesh: camera-space normals, vertex colours, mask and depth. Differentiable in the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import Fragments, interpolate, rasterize


@dataclass(frozen=True)
class RenderedNormals:
    """Camera-space normals of V views.

    Attributes:
        normals: (V, H, W, 3) unit vectors (x right, y up, z towards the camera), zero where nothing is seen.
        mask: (V, H, W) 1 where the mesh is seen, 0 elsewhere.
        depth: (V, H, W) distance along the view axis in world units, zero where nothing is seen.
        fragments: what every pixel shows.
    """

    normals: Float[Tensor, "V H W 3"]
    mask: Float[Tensor, "V H W"]
    depth: Float[Tensor, "V H W"]
    fragments: Fragments


@dataclass(frozen=True)
class RenderedColors:
    """Colours of V views.

    Attributes:
        colors: (V, H, W, 3) sRGB-encoded, in [0, 1].
        mask: (V, H, W) 1 where the mesh is seen, 0 elsewhere.
    """

    colors: Float[Tensor, "V H W 3"]
    mask: Float[Tensor, "V H W"]


def render_normals(
    mesh: Mesh, cameras: Cameras, size: tuple[int, int], normals: Float[Tensor, "N 3"] | None = None
) -> RenderedNormals:
    """Camera-space normals, smooth over the faces.

    Args:
        size: (H, W) pixels.
        normals: (N, 3) world-space vertex normals to show instead of the mesh's own.
    """
    fragments = rasterize(cameras.clip(mesh.vertices), mesh.faces, size)
    if normals is None:
        normals = vertex_normals(mesh.vertices, mesh.faces)
    image = interpolate(cameras.normals_to_camera(normals), mesh.faces, fragments)
    unit = torch.nn.functional.normalize(image, dim=-1, eps=1e-12)
    return RenderedNormals(unit, fragments.mask.to(unit.dtype), fragments.depth, fragments)


def render_colors(mesh: Mesh, cameras: Cameras, size: tuple[int, int], background: float = 1.0) -> RenderedColors:
    """Unlit vertex colours.

    Args:
        size: (H, W) pixels.
        background: the grey of pixels that show nothing, in [0, 1].

    Raises:
        BadInput: a mesh without colours.
    """
    if mesh.colors is None:
        raise BadInput("the mesh has no vertex colours to render", hint="render its normals, or give it colours first")
    fragments = rasterize(cameras.clip(mesh.vertices), mesh.faces, size)
    mask = fragments.mask.to(mesh.colors.dtype)
    image = interpolate(mesh.colors, mesh.faces, fragments)
    return RenderedColors(image + background * (1 - mask[..., None]), mask)
