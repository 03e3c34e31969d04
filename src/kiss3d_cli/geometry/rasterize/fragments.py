"""What every pixel shows, and vertex attributes carried to the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.rasterize.backends import BUILT_IN, Backend
from kiss3d_cli.geometry.rasterize.coverage import FACE_MASK
from kiss3d_cli.geometry.rasterize.gather import Mixture, SurfacePoints


@dataclass(frozen=True)
class Fragments:
    """The nearest surface at every pixel centre of V views.

    Attributes:
        face_id: (V, H, W) int64, -1 where no face is seen.
        barycentric: (V, H, W, 3) perspective-correct weights of the face's corners, in [0, 1], adding up to 1; zero
            where no face is seen. Differentiable in the clip-space vertices.
        depth: (V, H, W) distance along the view axis (clip w), in world units; zero where no face is seen.
            Differentiable.
    """

    face_id: Int[Tensor, "V H W"]
    barycentric: Float[Tensor, "V H W 3"]
    depth: Float[Tensor, "V H W"]

    @property
    def mask(self) -> Bool[Tensor, "V H W"]:
        return self.face_id >= 0


def rasterize(
    clip: Float[Tensor, "V N 4"],
    faces: Int[Tensor, "F 3"],
    size: tuple[int, int],
    backend: Backend = BUILT_IN,
    *,
    closed: bool = False,
) -> Fragments:
    """Finds the nearest face at every pixel centre; front and back faces alike, unless the surface is closed.

    Faces are cut at the near plane; those without area on the screen are skipped. At equal depth the lower face wins.
    Pixel (i, j) has its centre at (i + 0.5, j + 0.5), row 0 is on top (y up in clip space), the top-left rule holds.

    Args:
        clip: perspective clip space of V views, as from `Cameras.clip` (OpenGL: y up, w the distance along the view
            axis).
        size: (H, W) pixels.
        backend: who finds the faces, from `find_backend`.
        closed: the faces that look away need not be drawn, as others hide them.

    Raises:
        BadInput: vertices that are not finite, faces that name vertices which are not there, an empty image.
    """
    height, width = size
    check_triangles(clip, faces)
    if height < 1 or width < 1:
        raise BadInput(f"an image of {width} x {height} pixels cannot be drawn", hint="ask for at least 1 x 1 pixels")
    faces = faces.long().T.contiguous().T  # each corner an array of its own, as all that follows reads them
    find = (backend.find_closed if closed else None) or backend.find
    face_id = find(clip.detach(), faces, size)
    barycentric, depth = SurfacePoints.apply(clip, faces, face_id)  # type: ignore[no-untyped-call]
    return Fragments(face_id, barycentric, depth)


def check_triangles(clip: Float[Tensor, "V N 4"], faces: Int[Tensor, "F 3"]) -> None:
    if not bool(torch.isfinite(clip).all()):
        raise BadInput("the mesh has vertices that are not finite numbers", hint="repair or re-export the mesh")
    if faces.numel() and not 0 <= int(faces.amin()) <= int(faces.amax()) < clip.shape[1]:
        raise BadInput(
            f"the faces name vertices {int(faces.amin())} to {int(faces.amax())}, but there are {clip.shape[1]}",
            hint="repair or re-export the mesh",
        )
    if faces.shape[0] > FACE_MASK:
        raise BadInput(f"{faces.shape[0]} faces are more than the rasteriser can number", hint="decimate the mesh")


def interpolate(
    attributes: Float[Tensor, "... N C"], faces: Int[Tensor, "F 3"], fragments: Fragments
) -> Float[Tensor, "V H W C"]:
    """Vertex attributes at every pixel, zero where no face is seen. Differentiable in attributes and barycentrics.

    Args:
        attributes: (N, C) for all views, or (V, N, C) for each.
    """
    views = fragments.face_id.shape[0]
    if attributes.ndim not in (2, 3) or (attributes.ndim == 3 and attributes.shape[0] != views):
        raise BadInput(f"attributes of shape {tuple(attributes.shape)} do not fit {views} views")
    image: Tensor = Mixture.apply(attributes, fragments.barycentric, faces.long(), fragments.face_id)  # type: ignore[no-untyped-call]
    return image
