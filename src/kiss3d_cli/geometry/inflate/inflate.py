"""A silhouette inflated to a closed, coloured surface. How high it rises: heights.py."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.double_sheet import LEVEL, DoubleSheet, connect, double_sheet
from kiss3d_cli.geometry.inflate.heights import Heights, height_field
from kiss3d_cli.geometry.inflate.sheet_colors import sheet_colors
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals

RESOLUTION = 256
STAIRCASE = 1.0
"""Samples; standard deviation of the blur along the outline."""
DEPTH = 0.95
"""Of the round section: most things are a little flatter than they are wide."""
HIGHEST = 0.95
"""World units from the mid-plane beyond which the height is pressed down smoothly."""


def inflate(
    alpha: Float[Tensor, "S S"],
    rgb: Float[Tensor, "S S 3"] | None = None,
    camera: Cameras | None = None,
    *,
    resolution: int = RESOLUTION,
    depth: float = DEPTH,
) -> Mesh:
    """A closed, manifold, connected surface whose picture from the camera has the given silhouette.

    The surface has round sections about its middle in the plane z = 0; its points lie on their own pixels' rays, so
    that perspective does not spoil the silhouette. Openings stay open; pieces are
    joined by narrow bars, crumbs are dropped.

    Args:
        alpha: coverage of a square picture, in [0, 1]; the silhouette is where it is over one half.
        rgb: the picture, sRGB-encoded, in [0, 1], for vertex colours; none if None.
        camera: the one camera that saw the picture, in front of the plane z = 0; the bundle's front camera if None.
        resolution: pixels a side at which the surface is sampled; at most the picture's own.
        depth: factor on the height; 1 gives round sections.

    Raises:
        BadInput: the silhouette is empty.
    """
    coverage = sample_coverage(alpha, resolution)
    sheet = double_sheet(coverage)
    side = coverage.shape[0] - 2
    camera = orbit_cameras([0.0]) if camera is None else camera
    on_picture = (sheet.points - 1) / side
    rays, center = pixel_rays(on_picture, camera)
    # world units a pixel, where the picture's middle meets the plane z = 0
    unit = 2 * np.linalg.norm(center) / (float(camera.projection[0, 0, 0]) * side)
    z = _depths(height_field(coverage), sheet, rays, unit, depth)
    points = center + rays * ((z - center[2]) / rays[:, 2])[:, None]
    mesh = Mesh(torch.from_numpy(points).float(), torch.from_numpy(sheet.faces))
    if rgb is None:
        return mesh
    normals = vertex_normals(mesh.vertices, mesh.faces).double().numpy()
    facing = -(normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    colors = sheet_colors(rgb.double().numpy(), (alpha > LEVEL).numpy(), on_picture, facing)
    return mesh.with_colors(torch.from_numpy(colors).float())


def sample_coverage(alpha: Float[Tensor, "S S"], resolution: int) -> Float[np.ndarray, "H W"]:
    """Alpha at the resolution of the surface, one connected piece, with a border of zeros one pixel wide."""
    side = min(resolution, alpha.shape[0])
    if not bool((alpha > LEVEL).any()):
        raise BadInput(
            "the silhouette is empty: there is nothing to inflate", hint="look at mask.png of the preprocess stage"
        )
    reduced = torch.nn.functional.interpolate(alpha[None, None].double(), size=(side, side), mode="area")[0, 0].numpy()
    solid = (alpha > LEVEL).numpy()
    scale = side / alpha.shape[0]
    # a staircase along the outline would show as ridges over all of the sides; thin parts would break up
    smooth = ndimage.gaussian_filter(reduced, STAIRCASE, mode="nearest")
    thin = _marked(solid & ~ndimage.binary_opening(solid, np.ones((5, 5), bool)), scale, side)
    reduced = np.where(ndimage.binary_dilation(thin, np.ones((5, 5), bool)), reduced, smooth)
    # parts thinner than a sample: each of their pixels takes its whole sample
    thinnest = _marked(solid & ~ndimage.binary_opening(solid, np.ones((3, 3), bool)), scale, side)
    return connect(np.pad(np.where(thinnest, np.maximum(reduced, 0.6), reduced), 1))


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


def shrink_into_views(mesh: Mesh, cameras: Cameras, margin: float = 0.02) -> Mesh:
    """The mesh, scaled about the origin just so far that no camera's picture cuts it off; unchanged if none does.

    What is inside the picture of one camera may come closer to another, and so be larger there. In a camera's axes
    (x, y, z to the camera, from the origin) a point scaled by s lies in the picture while
    f s max(|x|, |y|) <= (1 - margin) (r - s z), with focal length f and distance r: the bound on s is solved for.

    Args:
        mesh: in the world frame.
        cameras: each looking at the origin.
        margin: share of the picture's half side that stays free.
    """
    local = cameras.normals_to_camera(mesh.vertices)
    distance = cameras.centers.norm(dim=-1)[:, None]
    side = torch.einsum("vi,vni->vni", cameras.projection[:, [0, 1], [0, 1]], local[..., :2]).abs().amax(-1)
    needed = (side + (1 - margin) * local[..., 2]) / ((1 - margin) * distance)
    scale = 1 / max(1.0, float(needed.max()))
    return mesh.with_vertices(mesh.vertices * scale)


def _depths(
    heights: Heights,
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
    gradient = heights.gradient.reshape(-1, 2)[sheet.pixel] * unit
    middle = depth**2 * (gradient * slant).sum(-1) / 2 / steep
    half = soft_limit(depth * unit * np.sqrt(heights.squared.ravel()[sheet.pixel] / steep), HIGHEST)
    return np.asarray(middle + sheet.side * half)


def soft_limit(values: Float[np.ndarray, " N"], limit: float) -> Float[np.ndarray, " N"]:
    """Values up to 0.7 of the limit unchanged, those beyond pressed under it smoothly."""
    knee = 0.7 * limit
    beyond = np.maximum(values - knee, 0) / (limit - knee)
    return np.asarray(np.where(values > knee, knee + (limit - knee) * np.tanh(beyond), values))
