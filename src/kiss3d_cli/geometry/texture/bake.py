"""Textures made: photographs baked into the picture of an unwrapped mesh."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.diffuse import diffuse
from kiss3d_cli.geometry.texture.project import Photographs, Projector
from kiss3d_cli.geometry.texture.texture import Texture

_TEXELS_AT_ONCE = 1 << 18


def bake(mesh: Mesh, photographs: Photographs, atlas: Atlas, size: int = 2048) -> Texture:
    """Paints every texel from the photographs that show it.

    Texels that no photograph shows take the mesh's colours spread by diffusion (`project.project_colors`), those in
    between a blend. Where no photograph counts at all, all take the colours of the mesh's vertices. Texels outside all
    charts repeat the nearest one inside, so that neither filtering nor mipmaps bring a seam to light.

    Args:
        size: pixels a side.
    """
    if size < 1:
        raise BadInput(f"A texture cannot have {size} pixels a side.", hint="Ask for 1024 or 2048.")
    projector = Projector(mesh, photographs)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    sighting = projector.look(mesh.vertices, normals)
    if bool(sighting.trust.any()) or mesh.colors is None:
        spread = diffuse(mesh.vertices, mesh.faces, sighting.colors, sighting.trust)
    else:
        spread = mesh.colors
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
