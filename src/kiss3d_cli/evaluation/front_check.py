"""The front view of a mesh, compared with the picture that the mesh was made from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import both
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import BUILT_IN
from kiss3d_cli.geometry.render import render_colors, render_texture
from kiss3d_cli.geometry.silhouette import missing_regions, pieces_of, thin_parts
from kiss3d_cli.geometry.surface.intersections import bent_edges, self_intersections
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.geometry.texture.texture import Texture

BENT = 60.0
"""Degrees between two faces from which their edge is ragged."""
HIGHEST_PSNR = 99.0
"""Decibels written for two pictures that do not differ."""

REGISTRATIONS = 3
MOST_TOLD = 4
SETTLED = 0.05
"""Pixels that a registration's step moves the picture's border at least, or it is the last."""
BLUR = 2.0
"""Standard deviation in pixels over which two silhouettes are brought together."""


@dataclass(frozen=True)
class FrontCheck:
    """How a mesh compares with its own picture.

    Attributes:
        mask_iou: intersection over union of the mesh's front silhouette and the picture's mask.
        color_psnr: decibels between the mesh's front and the picture, over the mask's pixels; what the mesh does not
            show counts as white; None if the mesh has neither a texture nor colours.
        thin_kept: share of the mask's thin parts (under 6 pixels of 512) that the front shows, to a pixel; None if
            there are none.
        lost_parts: where in the picture parts of the mask are that the front does not show ("upper left"), the largest
            first: regions wider than a pixel that reach `REACH` away from all that it shows.
        pieces: separate parts of the mesh.
        mask_pieces: separate parts of the mask, specks of a pixel left out.
        watertight: every edge belongs to exactly two faces.
        self_intersections: pairs of faces that cut through each other.
        ragged_edges: edges bent by more than 60 degrees, for each 1,000.
        faces: their number.
        scale: of the front against the picture; 1 where the mesh has the picture's own framing.
    """

    mask_iou: float
    color_psnr: float | None
    thin_kept: float | None
    lost_parts: tuple[str, ...]
    pieces: int
    mask_pieces: int
    watertight: bool
    self_intersections: int
    ragged_edges: float
    faces: int
    scale: float


def check_front(
    mesh: Mesh,
    picture: UInt8[np.ndarray, "S S 3"],
    mask: Bool[np.ndarray, "S S"],
    camera: Cameras,
    texture: Texture | None = None,
) -> FrontCheck:
    """Compare a mesh with the framed picture that it was made from.

    A mesh may show the object at another size, or off the middle, than the picture: the front is moved and scaled so
    that its box is the mask's, where that fits better.

    Args:
        mesh: on the CPU.
        picture: sRGB-encoded, not mixed with a background where its edges are soft.
        mask: where the object is.
        camera: the front one.
        texture: of the mesh; its vertex colours are used without one.

    Raises:
        BadInput: the mask is empty, or the mesh has no faces.
    """
    if not mask.any():
        raise BadInput("the picture's mask is empty", hint="look at mask.png of the preprocess stage")
    if not len(mesh.faces):
        raise BadInput("the mesh has no faces", hint="run the stages before again")
    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    front, crossings = both(
        lambda: _front(mesh, picture, mask, camera, texture), lambda: self_intersections(vertices, faces)
    )
    found = report(vertices, faces)
    return FrontCheck(
        **front,
        pieces=found.components,
        watertight=found.watertight,
        self_intersections=crossings,
        ragged_edges=bent_edges(vertices, faces, BENT),
        faces=len(faces),
    )


def _front(
    mesh: Mesh,
    picture: UInt8[np.ndarray, "S S 3"],
    mask: Bool[np.ndarray, "S S"],
    camera: Cameras,
    texture: Texture | None,
) -> dict[str, Any]:
    """The fields of `FrontCheck` that compare pictures; see `check_front`."""
    size = (len(mask), len(mask))
    fitted, scale, shown = fit_front(mesh, camera, mask)
    psnr = None
    if texture is not None or mesh.colors is not None:
        front = (
            render_texture(mesh, texture, fitted, size, antialiased=False)
            if texture is not None
            else render_colors(mesh, fitted, size, antialiased=False)
        )
        colors = front.colors[0].double().numpy()
        error = float(((colors - picture / 255.0)[mask] ** 2).mean())
        psnr = HIGHEST_PSNR if error <= 0 else min(HIGHEST_PSNR, -10 * math.log10(error))
    thin = thin_parts(mask)
    near = ndimage.binary_dilation(shown, np.ones((3, 3), bool))
    return {
        "mask_iou": overlap(shown, mask),
        "color_psnr": psnr,
        "thin_kept": float(near[thin].mean()) if thin.any() else None,
        "lost_parts": lost_parts(mask, shown),
        "mask_pieces": len(pieces_of(mask)),
        "scale": scale,
    }


def lost_parts(mask: Bool[np.ndarray, "S S"], shown: Bool[np.ndarray, "S S"]) -> tuple[str, ...]:
    """Where parts of a mask are that a front does not show, in words, largest first, at most `MOST_TOLD` of them."""
    labels, numbers = missing_regions(mask, shown)
    return places_of(labels == number for number in numbers[:MOST_TOLD])


def places_of(regions: Iterable[Bool[np.ndarray, "S S"]]) -> tuple[str, ...]:
    """Where in the picture the regions are, in words, the first `MOST_TOLD` of them."""
    found = []
    for region in itertools.islice(regions, MOST_TOLD):
        row, column = (float(np.mean(where)) / len(region) for where in np.nonzero(region))
        upright = "upper" if row < 1 / 3 else "lower" if row > 2 / 3 else ""
        across = "left" if column < 1 / 3 else "right" if column > 2 / 3 else ""
        found.append(f"{upright} {across}".strip() or "in the middle")
    return tuple(found)


def fit_front(
    mesh: Mesh, camera: Cameras, mask: Bool[np.ndarray, "S S"]
) -> tuple[Cameras, float, Bool[np.ndarray, "S S"]]:
    """The camera under which the mesh's front agrees best with the mask, its scale, and what it shows.

    The box's size and middle come first, then steps of an image registration (Lucas and Kanade 1981), which is exact
    to a small share of a pixel.
    """
    size = (len(mask), len(mask))
    now, scale, shown = camera, 1.0, _silhouette(mesh, camera, size)
    best = now, scale, shown
    if overlap(shown, mask) > 0.995 or not shown.any():
        return best
    (middle, extent), (wanted, wanted_extent) = _box(shown), _box(mask)
    factor = wanted_extent / extent
    shift = wanted - factor * middle
    for _ in range(1 + REGISTRATIONS):
        now, scale = moved(now, factor, shift), scale * factor
        shown = _silhouette(mesh, now, size)
        if overlap(shown, mask) > overlap(best[2], mask):
            best = now, scale, shown
        factor, shift = _registered(shown, mask)
        if not 0.5 < factor < 2 or max(abs(factor - 1), *abs(shift)) < SETTLED / (len(mask) / 2):
            break
    return best


def _silhouette(mesh: Mesh, camera: Cameras, size: tuple[int, int]) -> Bool[np.ndarray, "S S"]:
    found: Bool[np.ndarray, "S S"] = (BUILT_IN.find(camera.clip(mesh.vertices), mesh.faces, size)[0] >= 0).numpy()
    return found


def _registered(shown: Bool[np.ndarray, "S S"], mask: Bool[np.ndarray, "S S"]) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Factor and shift, in half sides to the right and up, that bring one picture closer to the other."""
    soft, aim = (cv2.GaussianBlur(picture.astype(np.float64), (0, 0), BLUR) for picture in (shown, mask))
    side = len(mask)
    line = (np.arange(side) + 0.5) * 2 / side - 1
    down, right = (slope * side / 2 for slope in np.gradient(soft))
    slopes = np.stack([right * line + down * line[:, None], right, -down], -1).reshape(-1, 3)
    # three unknowns: the normal equations are well-conditioned, and pinv bears a picture without slopes
    growth, *shift = -np.linalg.pinv(slopes.T @ slopes) @ (slopes.T @ (aim - soft).reshape(-1))
    return 1 + float(growth), np.array(shift)


def moved(camera: Cameras, scale: float, shift: Float[np.ndarray, " 2"]) -> Cameras:
    """A camera whose picture is scaled about its middle, then shifted, in half sides to the right and up."""
    projection = camera.projection.clone()
    projection[:, :2] *= scale
    projection[:, :2, 2] -= torch.from_numpy(shift).to(projection)  # w is -z
    return Cameras(camera.world_to_camera, projection)


def _box(mask: Bool[np.ndarray, "S S"]) -> tuple[Float[np.ndarray, " 2"], float]:
    """Middle, in half sides to the right and up from the picture's, and longer side in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    middle = np.array([columns[0] + columns[-1] + 1, rows[0] + rows[-1] + 1]) / len(mask) - 1
    return middle * [1, -1], float(max(np.ptp(rows), np.ptp(columns)) + 1)


def overlap(one: Bool[np.ndarray, "S S"], two: Bool[np.ndarray, "S S"]) -> float:
    return float((one & two).sum() / max(1, (one | two).sum()))
