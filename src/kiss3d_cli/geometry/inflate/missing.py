"""Parts of a picture that a surface does not show, restored as inflated components in place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.inflate.double_sheet import LEVEL
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.sheet_colors import SheetColors
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.silhouette import missing_regions, thin_parts
from kiss3d_cli.geometry.surface.manifold import face_components
from kiss3d_cli.geometry.surface.repair import repair

KEPT = 0.98
"""Share of a thin part that a front shows, to a pixel, or all of it is missing: no wire is mended in its middle."""
OVERLAP = 1 / 128
"""Share of the picture's side that a part reaches into what is shown, so that it grows out of it."""
AROUND = 0.3
"""Share of the front's outline beside which something wide is missing, from which it is no part: the surface is
smaller all around."""
MOST = 32
"""Parts, the largest first; each is a body that takes its time."""
_AROUND = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Part:
    """One body.

    Attributes:
        mesh: closed, manifold, with colours.
        where: (S, S) the picture's pixels that it shows.
        inside: those that were missing.
        rest: the mask without what any part was missing.
    """

    mesh: Mesh
    where: Bool[np.ndarray, "S S"]
    inside: Bool[np.ndarray, "S S"]
    rest: Bool[np.ndarray, "S S"]


@dataclass(frozen=True)
class Fit:
    """How the picture lies on the camera's: in half sides to the right and up, the camera's places, scaled, then
    shifted, are the picture's."""

    scale: float
    shift: Float[np.ndarray, " 2"]


def missing_parts(
    mesh: Mesh,
    rgb: Float[Tensor, "S S 3"],
    alpha: Float[Tensor, "S S"],
    shown: Bool[np.ndarray, "S S"],
    camera: Cameras,
    fit: Fit,
) -> list[Part]:
    """What the picture shows and the mesh does not, each part inflated at the depth of the surface that it touches.

    Args:
        mesh: on the CPU.
        rgb: sRGB-encoded, in [0, 1], not multiplied by alpha.
        alpha: of the picture.
        shown: the mesh's front, seen by the fitted camera.
        camera: in front of the plane z = 0.
        fit: of the picture on the camera's.
    """
    mask = (alpha > LEVEL).numpy()
    labels, numbers = _regions(mask, shown)
    if not numbers:
        return []
    reach = max(2, round(OVERLAP * len(mask)))
    coverage = alpha.double().numpy()
    grown = [ndimage.binary_dilation(labels == number, _AROUND, iterations=reach, mask=mask) for number in numbers]
    colors = SheetColors(rgb.double().numpy(), np.where(np.logical_or.reduce(grown), coverage, 0))
    place, distance = projected(mesh, camera, fit, len(mask))
    parts = []
    rest = mask & ~np.isin(labels, numbers)
    for number, own in zip(numbers, grown, strict=True):
        seen = _as_seen(np.where(own, coverage, 0), fit)
        if not bool((seen > LEVEL).any()):
            continue  # beyond the border of what the camera sees
        bodies = inflate(seen, camera)
        touching = own[place[:, 1], place[:, 0]]
        beside = distance[touching] if touching.any() else distance
        middle = (float(beside.min()) + float(beside.max())) / 2
        center = camera.centers[0]
        vertices = center + (bodies.mesh.vertices - center) * (middle / float(center.norm()))
        facing = torch.cosine_similarity(vertex_normals(vertices, bodies.mesh.faces), center - vertices, dim=-1)
        painted = colors.at(_to_picture(bodies.on_picture, fit), facing.double().numpy())
        body = Mesh(vertices, bodies.mesh.faces, torch.from_numpy(painted).float())
        parts.append(Part(body, own, labels == number, rest))
    return parts


def making_room(mesh: Mesh, parts: list[Part], camera: Cameras, fit: Fit) -> Mesh:
    """The mesh without what it has of the parts: stumps are cut off and closed, small components are dropped.

    Where a cut can't be closed nothing but crumbs goes: pieces that lie wholly where parts are.
    """
    side = len(parts[0].inside)
    reach = max(2, round(OVERLAP * side))
    grown = np.logical_or.reduce([part.where for part in parts])
    inside = np.logical_or.reduce([part.inside for part in parts])
    stump = ndimage.binary_dilation(inside, _AROUND, iterations=reach) & ~ndimage.binary_dilation(
        parts[0].rest, _AROUND
    )
    place, _ = projected(mesh, camera, fit, side)
    column, row = place.T
    beyond = ~ndimage.binary_dilation(grown, _AROUND, iterations=reach)[row, column]
    piece = face_components(mesh.faces).numpy()
    corners = mesh.faces.numpy()
    stays = np.isin(piece, piece[beyond[corners].any(1)])
    cut = stays & ~stump[row, column][corners].all(1)
    for kept in (cut, stays) if (cut != stays).any() else (stays,):
        left = _with_faces(mesh, kept)
        if not len(left.faces):
            return left
        repaired = repair(left)
        if repaired.defects.is_closed_manifold:
            break
    return repaired.mesh


def _with_faces(mesh: Mesh, kept: Bool[np.ndarray, " F"]) -> Mesh:
    used, corners = torch.unique(mesh.faces[torch.from_numpy(kept)], return_inverse=True)
    return Mesh(mesh.vertices[used], corners.reshape(-1, 3), None if mesh.colors is None else mesh.colors[used])


def _regions(mask: Bool[np.ndarray, "S S"], shown: Bool[np.ndarray, "S S"]) -> tuple[Int[np.ndarray, "S S"], list[int]]:
    """Labels of what is missing, thin parts as a whole, and the numbers of at most `MOST` of them, largest first."""
    labels, numbers = missing_regions(mask, shown)
    thin, count = ndimage.label(thin_parts(mask), _AROUND)
    near = ndimage.binary_dilation(shown, _AROUND)
    share = np.atleast_1d(ndimage.mean(near, thin, np.arange(1, count + 1))) if count else np.zeros(0)
    region = np.isin(labels, numbers)
    outline = shown & ~ndimage.binary_erosion(shown, _AROUND)
    wide = ndimage.binary_dilation(region & (thin == 0), _AROUND, iterations=max(2, round(OVERLAP * len(mask))))
    if (outline & wide).sum() > AROUND * outline.sum():
        region = np.zeros_like(region)
    region |= np.isin(thin, 1 + np.flatnonzero(share < KEPT))
    labels, count = ndimage.label(region, _AROUND)
    areas = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    return labels, (1 + np.argsort(-areas, kind="stable"))[:MOST].tolist()


def _to_picture(at: Float[np.ndarray, "N 2"], fit: Fit) -> Float[np.ndarray, "N 2"]:
    """Column and row, as shares of the side: of the camera's picture to the given one."""
    return np.asarray(0.5 + fit.scale * (at - 0.5) + fit.shift * [0.5, -0.5])


def _as_seen(alpha: Float[np.ndarray, "S S"], fit: Fit) -> Float[Tensor, "S S"]:
    """The picture's alpha where the camera sees it; wires of a pixel stay whole."""
    side = len(alpha)
    # of the middle of the first pixel, and from one pixel to the next
    first = _to_picture(np.full((1, 2), 0.5 / side), fit)[0] * side - 0.5
    matrix = np.array([[fit.scale, 0, first[0]], [0, fit.scale, first[1]]])
    soft, hard = (
        cv2.warpAffine(values, matrix, (side, side), flags=how | cv2.WARP_INVERSE_MAP)
        for values, how in ((alpha, cv2.INTER_LINEAR), ((alpha > LEVEL).astype(np.float64), cv2.INTER_NEAREST))
    )
    return torch.from_numpy(np.maximum(soft, 0.6 * hard))


def projected(
    mesh: Mesh, camera: Cameras, fit: Fit, side: int
) -> tuple[Int[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Column and row of the pixel of every vertex in the given picture, and its distance along the view axis."""
    clip = camera.clip(mesh.vertices)[0].double().numpy()
    flat = clip[:, :2] / clip[:, 3:] * [0.5, -0.5] + 0.5
    return np.clip(np.floor(_to_picture(flat, fit) * side), 0, side - 1).astype(np.int64), clip[:, 3]
