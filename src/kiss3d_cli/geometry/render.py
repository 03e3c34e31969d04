"""Pictures of a mesh: camera-space normals, vertex colours, mask and depth. Differentiable in the vertices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import BUILT_IN, Backend, Edges, Fragments, antialias, interpolate, rasterize
from kiss3d_cli.geometry.texture.texture import Texture


@dataclass(frozen=True)
class RenderedNormals:
    """Camera-space normals of V views.

    Attributes:
        normals: (V, H, W, 3) unit vectors (x right, y up, z towards the camera), zero where nothing is seen. Where
            antialiased they fade with the mask, so `normals + (1 - mask) * background` is the picture on a background.
        mask: (V, H, W) in [0, 1], the share of the pixel that the mesh covers.
        depth: (V, H, W) distance along the view axis at the pixel centre in world units, zero where nothing is seen.
        fragments: what every pixel centre shows.
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
        mask: (V, H, W) in [0, 1], the share of the pixel that the mesh covers.
        fragments: what every pixel centre shows.
    """

    colors: Float[Tensor, "V H W 3"]
    mask: Float[Tensor, "V H W"]
    fragments: Fragments


def render_normals(
    mesh: Mesh,
    cameras: Cameras,
    size: tuple[int, int],
    normals: Float[Tensor, "N 3"] | None = None,
    *,
    antialiased: bool = True,
    edges: Edges | None = None,
    backend: Backend = BUILT_IN,
) -> RenderedNormals:
    """Camera-space normals, smooth over the faces. With antialiasing the mask is differentiable too.

    Args:
        size: (H, W) pixels.
        normals: (N, 3) world-space vertex normals to show instead of the mesh's own.
        edges: `mesh_edges(mesh.faces)`, to save finding them again while the faces stay.
        backend: who finds the faces that the pixels show.
    """
    clip = cameras.clip(mesh.vertices)
    fragments = rasterize(clip, mesh.faces, size, backend)
    if normals is None:
        normals = vertex_normals(mesh.vertices, mesh.faces)
    image = interpolate(cameras.normals_to_camera(normals), mesh.faces, fragments)
    unit = torch.nn.functional.normalize(image, dim=-1, eps=1e-12)
    mask = fragments.mask.to(unit.dtype)
    if antialiased:
        blended = antialias(torch.cat([unit, mask[..., None]], -1), clip, mesh.faces, fragments, edges)
        # A pixel between two silhouettes can get a share from both.
        unit, mask = blended[..., :3], blended[..., 3].clamp(0, 1)
    return RenderedNormals(unit, mask, fragments.depth, fragments)


def render_colors(
    mesh: Mesh, cameras: Cameras, size: tuple[int, int], background: float = 1.0, *, antialiased: bool = True
) -> RenderedColors:
    """Unlit vertex colours.

    Args:
        size: (H, W) pixels.
        background: the grey of pixels that show nothing, in [0, 1].

    Raises:
        BadInput: a mesh without colours.
    """
    if mesh.colors is None:
        raise BadInput("the mesh has no vertex colours to render", hint="render its normals, or give it colours first")
    clip = cameras.clip(mesh.vertices)
    fragments = rasterize(clip, mesh.faces, size)
    image = interpolate(mesh.colors, mesh.faces, fragments)
    return _on_background(image, mesh, clip, fragments, background, antialiased)


def render_texture(
    mesh: Mesh,
    texture: Texture,
    cameras: Cameras,
    size: tuple[int, int],
    background: float = 1.0,
    *,
    antialiased: bool = True,
) -> RenderedColors:
    """The unlit texture, filtered bilinearly without mipmaps. Not differentiable in the texture.

    Args:
        size: (H, W) pixels.
        background: the grey of pixels that show nothing, in [0, 1].
    """
    clip = cameras.clip(mesh.vertices)
    fragments = rasterize(clip, mesh.faces, size)
    uv = interpolate(texture.uv.to(clip), texture.corners.to(mesh.faces.device), fragments)
    picture = texture.image.to(clip.device).permute(2, 0, 1)[None].to(clip.dtype) / 255
    grid = uv.reshape(1, -1, size[1], 2) * 2 - 1
    found = torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    image = found[0].permute(1, 2, 0).reshape(*fragments.face_id.shape, 3) * fragments.mask[..., None]
    return _on_background(image, mesh, clip, fragments, background, antialiased)


def render_shaded(
    mesh: Mesh,
    attributes: Float[Tensor, "N C"],
    shade: Callable[[Float[Tensor, "P C"]], Float[Tensor, "P 3"]],
    cameras: Cameras,
    size: tuple[int, int],
    background: float = 1.0,
) -> RenderedColors:
    """Colours that are a function of what every pixel shows, not antialiased. Not differentiable.

    Args:
        attributes: of the vertices, interpolated over the faces.
        shade: from the attributes at P pixels to sRGB-encoded colours in [0, 1].
        size: (H, W) pixels.
        background: the grey of pixels that show nothing, in [0, 1].
    """
    clip = cameras.clip(mesh.vertices)
    fragments = rasterize(clip, mesh.faces, size)
    found = interpolate(attributes, mesh.faces, fragments)
    image = found.new_zeros(*fragments.mask.shape, 3)
    image[fragments.mask] = shade(found[fragments.mask]).to(image)
    return _on_background(image, mesh, clip, fragments, background, antialiased=False)


def _on_background(
    image: Float[Tensor, "V H W 3"],
    mesh: Mesh,
    clip: Float[Tensor, "V N 4"],
    fragments: Fragments,
    background: float,
    antialiased: bool,
) -> RenderedColors:
    """The image is zero where nothing is seen."""
    mask = fragments.mask.to(image.dtype)[..., None]
    full = torch.cat([image + background * (1 - mask), mask], -1)
    if antialiased:
        full = antialias(full, clip, mesh.faces, fragments).clamp(0, 1)
    return RenderedColors(full[..., :3], full[..., 3], fragments)
