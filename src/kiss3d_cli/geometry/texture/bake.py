"""Texture baking: photographs projected into the atlas of an unwrapped mesh."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import Fragments, rasterize
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.gutter import with_gutters
from kiss3d_cli.geometry.texture.project import Photographs, Projector
from kiss3d_cli.geometry.texture.texture import Texture

TEXELS_AT_ONCE = 1 << 16


def bake(mesh: Mesh, photographs: Photographs | Projector, atlas: Atlas, size: int = 2048) -> Texture:
    """Paints every texel from the photographs that show it.

    Texels that no photograph shows take colours completed from those around (`project.project_colors`), those in
    between a blend. Where no photograph counts at all, all take the colours of the mesh's vertices. Texels outside all
    charts have what lies across the seam, and further out the mean of the charts around, so that neither filtering nor
    mipmaps bring a seam to light.

    Args:
        photographs: of the mesh; a projector of them saves its work being done again.
        size: pixels a side.
    """
    if size < 1:
        raise BadInput(f"A texture cannot have {size} pixels a side.", hint="Ask for 1024 or 2048.")
    projector = photographs if isinstance(photographs, Projector) else Projector(mesh, photographs)
    seen_at_all = bool(projector.at_vertices.trust.any())
    spread = projector.spread if seen_at_all or mesh.colors is None else mesh.colors
    # The atlas is a picture like any other: w = 1 everywhere, and v runs down as rows do.
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros_like(atlas.uv)], 1)
    flat[:, 1] *= -1
    flat[:, 3] = 1
    fragments = rasterize(flat[None].to(mesh.vertices), atlas.corners.to(mesh.faces.device), (size, size))
    if not bool(fragments.mask.any()):
        raise BadInput("No face of the mesh is large enough for the texture.", hint="Ask for a larger texture.")
    shares, face_id = _with_small_faces(fragments, atlas, size)
    inside = face_id >= 0
    covered = inside.nonzero()[:, 0]
    attributes = torch.cat([mesh.vertices, projector.normals, spread, projector.own[:, None]], 1)
    image = attributes.new_zeros(size * size, 3)

    def paint(part: Int[Tensor, " P"]) -> None:
        corners = mesh.faces.index_select(0, face_id.index_select(0, part))
        weight = shares.index_select(0, part)
        mixed = sum(attributes.index_select(0, corners[:, i]) * weight[:, i, None] for i in range(3))
        place, normal, color, own = torch.split(torch.as_tensor(mixed), [3, 3, 3, 1], dim=1)
        seen = projector.look(place, torch.nn.functional.normalize(normal, dim=1))
        image[part] = torch.lerp(color, seen.colors, torch.where(own > 0, 0, seen.trust[:, None]))

    side_by_side(paint, covered.split(TEXELS_AT_ONCE), covered.device)
    painted = (image.clamp(0, 1) * 255).round().to(torch.uint8).reshape(size, size, 3).cpu().numpy()
    filled = with_gutters(painted, inside.reshape(size, size).cpu().numpy(), mesh.to("cpu"), atlas)
    return Texture(atlas.uv, atlas.corners, torch.from_numpy(filled))


def _with_small_faces(fragments: Fragments, atlas: Atlas, size: int) -> tuple[Float[Tensor, "T 3"], Int[Tensor, " T"]]:
    """Barycentric coordinates and face of every texel, -1 where there is none.

    A face too small to hold the centre of any texel gets those of the four around its middle that are free, which are
    what a renderer reads there: else it would take the colour of whatever chart is laid out beside it.
    """
    shares, face_id = fragments.barycentric.reshape(-1, 3).clone(), fragments.face_id.reshape(-1).clone()
    drawn = torch.zeros(len(atlas.corners), dtype=torch.bool, device=face_id.device)
    drawn[face_id[face_id >= 0]] = True
    small = (~drawn).nonzero()[:, 0].cpu()
    corner = torch.floor(atlas.uv[atlas.corners[small]].mean(1) * size - 0.5).long()
    for across, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = (corner + torch.tensor([across, down])).clamp(0, size - 1).unbind(1)
        texel, first = np.unique((row * size + column).numpy(), return_index=True)
        where, face = torch.from_numpy(texel).to(face_id), small[torch.from_numpy(first)].to(face_id)
        free = face_id[where] < 0
        face_id[where[free]] = face[free]
        shares[where[free]] = 1 / 3
    return shares, face_id
