"""Textures made: a mesh unwrapped with xatlas, photographs baked into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.texture.diffuse import diffuse
from kiss3d_cli.geometry.texture.project import Photographs, Projector
from kiss3d_cli.geometry.texture.texture import Texture

PADDING = 4
"""Pixels between two charts, at least."""
_TEXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Atlas:
    """A mesh's faces laid out flat without overlap.

    Attributes:
        uv: (M, 2) in [0, 1], u to the right, v down.
        corners: (F, 3) int64, rows of `uv`.
        charts: the number of pieces.
    """

    uv: Float[Tensor, "M 2"]
    corners: Int[Tensor, "F 3"]
    charts: int


def unwrap(mesh: Mesh, size: int = 2048) -> Atlas:
    """Cuts a mesh into charts and packs them with xatlas.

    Args:
        size: pixels a side of the picture that is to come; charts keep at least `PADDING` of them between each other.

    Raises:
        BadInput: a mesh without faces.
        Missing: xatlas is not installed.
    """
    if mesh.faces.shape[0] == 0:
        raise BadInput("The mesh has no faces to unwrap.", hint="Check the stage before.")
    try:
        import xatlas
    except ImportError as error:
        cause = "xatlas is not installed, and without it a mesh gets no texture."
        raise Missing(cause, hint="Run 'pip install xatlas', or keep vertex colours.") from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.detach().cpu().float().numpy(), mesh.faces.cpu().numpy().astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear, packing.create_image = size, PADDING, True, False
    atlas.generate(charts, packing, False)
    _, corners, uv = atlas[0]
    # xatlas divides by the width and the height that it used; one scale for both keeps squares square.
    pixels = np.asarray([atlas.width, atlas.height]) / max(atlas.width, atlas.height)
    placed = torch.from_numpy((uv * pixels).astype(np.float32))
    return Atlas(placed, torch.from_numpy(corners.astype(np.int64)), int(atlas.chart_count))


def bake(mesh: Mesh, photographs: Photographs, atlas: Atlas, size: int = 2048) -> Texture:
    """Paints every texel from the photographs that show it.

    Texels that no photograph shows take the mesh's colours spread by diffusion (`project.project_colors`), those in
    between a blend. Texels outside all charts repeat the nearest one inside, so that neither filtering nor mipmaps
    bring a seam to light.

    Args:
        size: pixels a side.
    """
    if size < 1:
        raise BadInput(f"A texture cannot have {size} pixels a side.", hint="Ask for 1024 or 2048.")
    projector = Projector(mesh, photographs)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    sighting = projector.look(mesh.vertices, normals)
    spread = diffuse(mesh.vertices, mesh.faces, sighting.colors, sighting.trust)
    # The atlas is a picture like any other: w = 1 everywhere, and v runs down as rows do.
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros_like(atlas.uv)], 1)
    flat[:, 1] *= -1
    flat[:, 3] = 1
    fragments = rasterize(flat[None].to(mesh.vertices), atlas.corners.to(mesh.faces.device), (size, size))
    points = interpolate(torch.cat([mesh.vertices, normals, spread], 1), mesh.faces, fragments).reshape(-1, 9)
    inside = fragments.mask.reshape(-1)
    if not bool(inside.any()):
        raise BadInput("No face of the mesh is large enough for the texture.", hint="Ask for a larger texture.")
    covered = inside.nonzero()[:, 0]
    image = points.new_zeros(size * size, 3)
    for start in range(0, len(covered), _TEXELS_AT_ONCE):
        part = covered[start : start + _TEXELS_AT_ONCE]
        place, normal, own = torch.tensor_split(points.index_select(0, part), 3, dim=1)
        seen = projector.look(place, torch.nn.functional.normalize(normal, dim=1))
        image[part] = torch.lerp(own, seen.colors, seen.trust[:, None])
    nearest = distance_transform_edt(
        ~inside.reshape(size, size).cpu().numpy(), return_distances=False, return_indices=True
    )
    source = torch.from_numpy(nearest[0].astype(np.int64) * size + nearest[1]).reshape(-1).to(image.device)
    painted = (image.clamp(0, 1) * 255).round().to(torch.uint8).index_select(0, source).reshape(size, size, 3)
    return Texture(atlas.uv, atlas.corners, painted)
