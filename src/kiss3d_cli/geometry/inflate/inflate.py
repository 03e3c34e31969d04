"""A silhouette inflated to a closed, coloured surface. How high it rises: heights.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.double_sheet import LEVEL, DoubleSheet, double_sheet, without_specks
from kiss3d_cli.geometry.inflate.layout import piece_depths
from kiss3d_cli.geometry.inflate.sheet_heights import SheetHeights, sheet_heights
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.silhouette import depth_inside, long_parts, thin_parts

RESOLUTIONS = (256, 512)
"""Samples a side, coarse and fine: a coarse grid is smoother, a fine one has room for a wire's section."""
OUTLINE = 1 / 30
"""Share of a silhouette's pixels along its outline from which it is as fine without thin parts: small pieces and many
openings are told by their outlines."""
SLIT = 1 / 512
"""Gaps up to twice as wide, as a share of the picture's side, are closed."""
STAIRCASE = 1 / 256
"""Share of the picture's side; standard deviation of the blur along the outline."""
CORNER = 4
"""Samples; what the blur takes from a corner is no longer than this, what it takes from a thin part is."""
BLOCK = 1 / 64
"""Share of the picture's side: far from the outline the surface has one vertex for up to so much."""
DEPTH = 0.95
"""Of the round section: most things are a little flatter than they are wide."""
HIGHEST = 0.95
"""World units from the mid-plane beyond which the height is pressed down smoothly."""
MARGIN = 0.02
"""Share of a picture's half side that the surface leaves free in every view."""
_ROUNDS = 6
"""Each shrinks by what is missing; perspective bends it only a little."""


@dataclass(frozen=True)
class Inflated:
    """A silhouette as a closed surface.

    Attributes:
        mesh: closed, manifold, a separate body for each piece of the silhouette; without colours.
        on_picture: (N, 2) column and row of each vertex in the picture, as shares of its side.
        scale: the camera's picture of the mesh is the given one, made smaller about its middle by this factor.
        pieces: how many there are.
    """

    mesh: Mesh
    on_picture: Float[np.ndarray, "N 2"]
    scale: float
    pieces: int


def inflate(
    alpha: Float[Tensor, "S S"],
    camera: Cameras | None = None,
    *,
    views: Cameras | None = None,
    resolution: int | None = None,
    depth: float = DEPTH,
) -> Inflated:
    """A closed, manifold surface whose picture from the camera has the given silhouette.

    The surface has round sections about its middle in the plane z = 0; its points lie on their own pixels' rays, so
    that perspective does not spoil the silhouette. Openings stay open, pieces stay apart; specks are dropped.

    Args:
        alpha: coverage of a square picture, in [0, 1]; the silhouette is where it is over one half.
        camera: the one camera that saw the picture, in front of the plane z = 0; the bundle's front camera if None.
        views: cameras whose pictures must hold the whole surface; what is inside the picture of one may come closer
            to another, and so be larger there. The picture is taken smaller until they do.
        resolution: samples a side, at most the picture's pixels; what thin parts and the outline ask for if None.
        depth: factor on the height; 1 gives round sections.

    Raises:
        BadInput: the silhouette is empty.
    """
    alpha = without_slits(alpha)
    if resolution is None:
        resolution = RESOLUTIONS[_is_fine((alpha > LEVEL).numpy())]
    coverage = sample_coverage(alpha, resolution)
    side = coverage.shape[0] - 2
    sheet = double_sheet(coverage, levels=max(0, round(np.log2(BLOCK * side))))
    camera = orbit_cameras([0.0]) if camera is None else camera
    on_picture = (sheet.points - 1) / side
    heights = sheet_heights(coverage, sheet)
    pieces = piece_depths(coverage)
    behind = pieces.depth.ravel()[sheet.pixel]
    scale = 1.0
    for _ in range(_ROUNDS):
        points = _placed(sheet, heights, behind, 0.5 + scale * (on_picture - 0.5), scale / side, camera, depth)
        mesh = Mesh(torch.from_numpy(points).float(), torch.from_numpy(sheet.faces))
        too_large = 1.0 if views is None else overhang(mesh, views)
        if too_large <= 1:
            break
        scale /= too_large
    return Inflated(mesh, on_picture, scale, pieces.count)


def _is_fine(solid: Bool[np.ndarray, "S S"]) -> bool:
    """Whether a silhouette has thin parts, or much outline for its area at 512 pixels a side."""
    outline = solid & (depth_inside(np.pad(solid, 1))[1:-1, 1:-1] <= 1)
    return bool(thin_parts(solid).any() or outline.sum() * len(solid) / 512 > OUTLINE * solid.sum())


def _placed(
    sheet: DoubleSheet,
    heights: SheetHeights,
    behind: Float[np.ndarray, " N"],
    at: Float[np.ndarray, "N 2"],
    pixel: float,
    camera: Cameras,
    depth: float,
) -> Float[np.ndarray, "N 3"]:
    """World positions of the vertices.

    Args:
        behind: how far each vertex's piece is behind the plane z = 0, as a share of the distance to the camera.
        at: column and row of each vertex as shares of the picture's side.
        pixel: side of a sample as a share of the picture's.
    """
    rays, center = pixel_rays(at, camera)
    # world units a pixel, where the picture's middle meets the plane z = 0
    unit = 2 * float(np.linalg.norm(center)) * pixel / float(camera.projection[0, 0, 0])
    z = _depths(heights, sheet, rays, unit, depth)
    return np.asarray(center + rays * ((z - center[2]) / rays[:, 2] * (1 + behind))[:, None])


def without_slits(alpha: Float[Tensor, "S S"]) -> Float[Tensor, "S S"]:
    """Alpha with gaps up to two pixels of 512 closed. Samples see such a gap as a row of holes with ragged rims.

    A grey-scale closing: edges of all else stay where they are, to less than a pixel. Pieces are not joined.
    """
    width = 2 * round(SLIT * alpha.shape[0]) + 1
    values = alpha.double().numpy()
    closed = ndimage.grey_closing(values, size=(width, width))
    pieces, count = ndimage.label(values > LEVEL, np.ones((3, 3)))
    reach = width + 2
    highest = ndimage.grey_dilation(pieces, size=(reach, reach))
    lowest = count + 1 - ndimage.grey_dilation(np.where(pieces > 0, count + 1 - pieces, 0), size=(reach, reach))
    between = (highest > 0) & (highest != lowest)
    return torch.from_numpy(np.where(between, values, closed)).to(alpha)


def sample_coverage(alpha: Float[Tensor, "S S"], resolution: int) -> Float[np.ndarray, "H W"]:
    """Alpha at the resolution of the surface, without specks, with a border of zeros one pixel wide.

    The outline is smoothed, but for what that would take away: of thin parts every sample is over one half that is so
    in the picture.
    """
    side = min(resolution, alpha.shape[0])
    if not bool((alpha > LEVEL).any()):
        raise BadInput(
            "the silhouette is empty: there is nothing to inflate", hint="look at mask.png of the preprocess stage"
        )
    reduced = torch.nn.functional.interpolate(alpha[None, None].double(), size=(side, side), mode="area")[0, 0].numpy()
    if side < alpha.shape[0]:
        # parts thinner than a sample: each of their pixels takes its whole sample
        solid = (alpha > LEVEL).numpy()
        width = int(np.ceil(alpha.shape[0] / side)) + 1
        thin = _marked(solid & ~ndimage.binary_opening(solid, np.ones((width, width), bool)), side / len(solid), side)
        reduced = np.where(thin, np.maximum(reduced, 0.6), reduced)
    inside = reduced > LEVEL
    # a staircase along the outline would show as ridges over all of the sides
    smooth = ndimage.gaussian_filter(reduced, STAIRCASE * side, mode="nearest")
    moved = (smooth > LEVEL) != inside
    near_thin = ndimage.binary_dilation(thin_parts(inside), np.ones((3, 3), bool), iterations=3)
    moved = long_parts(moved, CORNER) | (moved & near_thin)
    moved = ndimage.binary_dilation(moved, np.ones((3, 3), bool), iterations=2)
    return without_specks(np.pad(np.where(moved, reduced, smooth), 1))


def _marked(pixels: Bool[np.ndarray, "S S"], scale: float, side: int) -> Bool[np.ndarray, "s s"]:
    """The samples of a coarser grid in which any of the pixels lies."""
    rows, columns = np.nonzero(pixels)
    marks = np.zeros((side, side), bool)
    marks[(rows * scale).astype(int), (columns * scale).astype(int)] = True
    return marks


def pixel_rays(
    points: Float[np.ndarray, "N 2"], camera: Cameras
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " 3"]]:
    """World directions (not unit length) through points of the picture, and the camera's centre.

    Args:
        points: column and row as shares of the picture's side.
        camera: one camera.
    """
    rotation = camera.rotation[0].double().numpy()
    focal = camera.projection[0].double().numpy()[[0, 1], [0, 1]]
    local = np.stack([(2 * points[:, 0] - 1) / focal[0], (1 - 2 * points[:, 1]) / focal[1], -np.ones(len(points))], -1)
    return local @ rotation, camera.centers[0].double().numpy()


def overhang(mesh: Mesh, cameras: Cameras, margin: float = MARGIN) -> float:
    """How much too large a mesh is for the cameras' pictures: scaled by one over this, about the origin, it fits.

    In a camera's axes (x, y, z to the camera, from the origin) a point scaled by s lies in the picture while
    f s max(|x|, |y|) <= (1 - margin) (r - s z), with focal length f and distance r: the bound on s is solved for.

    Args:
        mesh: in the world frame.
        cameras: each looking at the origin.
        margin: share of the picture's half side that stays free.
    """
    local = cameras.normals_to_camera(mesh.vertices)
    distance = cameras.centers.norm(dim=-1)[:, None]
    side = torch.einsum("vi,vni->vni", cameras.projection[:, [0, 1], [0, 1]], local[..., :2]).abs().amax(-1)
    return float(((side + (1 - margin) * local[..., 2]) / ((1 - margin) * distance)).max())


def shrink_into_views(mesh: Mesh, cameras: Cameras, margin: float = MARGIN) -> Mesh:
    """The mesh, scaled about the origin just so far that no camera's picture cuts it off; unchanged if none does."""
    return mesh.with_vertices(mesh.vertices / max(1.0, overhang(mesh, cameras, margin)))


def _depths(
    heights: SheetHeights,
    sheet: DoubleSheet,
    rays: Float[np.ndarray, "N 3"],
    unit: float,
    depth: float,
) -> Float[np.ndarray, " N"]:
    """World z of every vertex, on its own ray.

    Where a ray meets a part of round section about an axis in the plane z = 0, its two hits lie symmetrically about
    the point that is closest to the axis. The axis is half the gradient of the squared height away, so with that
    gradient g, the ray's slant s (its move across the plane for each unit of z) and sections stretched by k, the
    closest point has z = k^2 (g . s) / 2 / (1 + k^2 s^2), and the hits are sqrt(k^2 u / (1 + k^2 s^2)) before and
    behind it. Outlines so lie in front of the plane where they face outwards, as the outline of a ball does.
    """
    slant = rays[:, :2] / rays[:, 2:]
    steep = 1 + depth**2 * (slant**2).sum(-1)
    gradient = heights.gradient * unit
    middle = depth**2 * (gradient * slant).sum(-1) / 2 / steep
    half = soft_limit(depth * unit * np.sqrt(heights.squared / steep), HIGHEST)
    return np.asarray(middle + sheet.side * half)


def soft_limit(values: Float[np.ndarray, " N"], limit: float) -> Float[np.ndarray, " N"]:
    """Values up to 0.7 of the limit unchanged, those beyond pressed under it smoothly."""
    knee = 0.7 * limit
    beyond = np.maximum(values - knee, 0) / (limit - knee)
    return np.asarray(np.where(values > knee, knee + (limit - knee) * np.tanh(beyond), values))
