"""Restoration of parts that the picture shows and the refined surface has lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.geometry.mesh import Mesh

LIKE = 0.97
"""Share of the front that must lie in the picture's mask: a network may have drawn another object, whose arms are
elsewhere."""
NEAR = 3
"""Pixels around the mask that count as within it."""
SHARE = 1 / 3
"""Of the faces, at most, for what is put in."""


@dataclass(frozen=True)
class Completed:
    """
    Attributes:
        mesh: the surface, and the parts as bodies of their own after it; with colours where `own`.
        own: (N,) vertices of the parts, whose colours are the picture's.
        notes: sentences on what was put in.
    """

    mesh: Mesh
    own: Bool[Tensor, " N"]
    notes: tuple[str, ...]


def with_missing_parts(
    mesh: Mesh, rgb: Float[Tensor, "S S 3"], alpha: Float[Tensor, "S S"], radius: float, target_faces: int
) -> Completed:
    """A mesh completed by what a picture of its front shows and it does not.

    Args:
        mesh: on the CPU.
        rgb: sRGB-encoded, in [0, 1], not multiplied by alpha.
        alpha: where the object is.
        radius: of the bundle's cameras.
        target_faces: faces of the result, at most; where parts need room the mesh is simplified further.
    """
    from scipy import ndimage

    from kiss3d_cli.evaluation.front_check import fit_front, overlap, places_of
    from kiss3d_cli.geometry.cameras import bundle_cameras
    from kiss3d_cli.geometry.inflate.double_sheet import LEVEL
    from kiss3d_cli.geometry.inflate.missing import Fit, making_room, missing_parts
    from kiss3d_cli.geometry.silhouette import thin_parts
    from kiss3d_cli.geometry.surface.decimate import decimate
    from kiss3d_cli.geometry.surface.fairing import ease_bent_edges
    from kiss3d_cli.geometry.surface.rounding import round_bent_edges

    nothing = Completed(mesh, torch.zeros(len(mesh.vertices), dtype=torch.bool), ())
    mask = (alpha > LEVEL).numpy()
    if not mask.any() or not len(mesh.faces):
        return nothing
    camera = bundle_cameras(radius)[[0]]
    # thin parts, which may be those that are missing, would be taken for a larger object
    core = mask & ~thin_parts(mask)
    fits = [fit_front(mesh, camera, wanted) for wanted in (mask, core) if wanted.any()]
    fitted, scale, shown = max(fits, key=lambda fit: overlap(fit[2], mask))
    near = ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=NEAR)
    if (shown & near).sum() < LIKE * shown.sum():
        return nothing
    shift = -fitted.projection[0, :2, 2].double().numpy()
    fit = Fit(scale, shift)
    parts = missing_parts(mesh, rgb, alpha, shown, camera, fit)
    if not parts:
        return nothing
    whole = _joined([part.mesh for part in parts])
    added = ease_bent_edges(decimate(round_bent_edges(whole), int(SHARE * target_faces)))
    body = decimate(making_room(mesh, parts, camera, fit), max(4, target_faces - len(added.faces)))
    own = torch.arange(len(body.vertices) + len(added.vertices)) >= len(body.vertices)
    places = ", ".join(places_of(part.where for part in parts))
    count = "A part" if len(parts) == 1 else f"{len(parts)} parts"
    note = (
        f"{count} that the surface had lost ({places}) {'was' if len(parts) == 1 else 'were'} put in from the picture."
    )
    return Completed(_joined([body.with_colors(torch.zeros_like(body.vertices)), added]), own, (note,))


def _joined(meshes: list[Mesh]) -> Mesh:
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)]).tolist()
    return Mesh(
        torch.cat([mesh.vertices for mesh in meshes]),
        torch.cat([mesh.faces + begin for mesh, begin in zip(meshes, first, strict=False)]),
        torch.cat([mesh.colors for mesh in meshes if mesh.colors is not None]),
    )
