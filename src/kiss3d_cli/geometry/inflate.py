"""A silhouette inflated to a closed surface: a Poisson problem on the mask, as in sketch-based modelling.

The height over the mid-plane is the root of u, where laplacian(u) = -c inside the silhouette and u = 0 on it
(Wu et al. 2007, ShapePalettes; Baran and Lehtinen 2009). With c = 4 a disc becomes a ball; a strip becomes a rod of
round section only with c = 2. So u is solved for twice: the first solution's curvature says where the silhouette is
round and where it is long, and sets c for the second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.double_sheet import LEVEL, connect, crossings, double_sheet
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.sheet_colors import sheet_colors

RESOLUTION = 256
DEPTH = 0.9
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

    The surface is symmetric about the plane z = 0, in which its outline lies; a point moves off that plane along its
    own pixel's ray, so that perspective does not spoil the silhouette. Openings stay open; pieces are joined by
    narrow bars, crumbs are dropped.

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
    height = depth * unit * height_field(coverage).ravel()[sheet.pixel]
    z = soft_limit(height, HIGHEST) * sheet.side
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
    # parts thinner than a sample would break up: each of their pixels takes its whole sample
    thin = solid & ~ndimage.binary_opening(solid, np.ones((3, 3), bool))
    rows, columns = np.nonzero(thin)
    scale = side / alpha.shape[0]
    at = (rows * scale).astype(int), (columns * scale).astype(int)
    reduced[at] = np.maximum(reduced[at], 0.6)
    return connect(np.pad(reduced, 1))


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


def soft_limit(values: Float[np.ndarray, " N"], limit: float) -> Float[np.ndarray, " N"]:
    """Values up to 0.7 of the limit unchanged, those beyond pressed under it smoothly."""
    knee = 0.7 * limit
    beyond = np.maximum(values - knee, 0) / (limit - knee)
    return np.asarray(np.where(values > knee, knee + (limit - knee) * np.tanh(beyond), values))


def height_field(coverage: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Heights in pixels over the mid-plane; 0 outside. A disc gives a ball, a strip a rod of round section."""
    solve = poisson_solver(coverage)
    roundness = _roundness(solve(np.ones_like(coverage)), coverage > LEVEL)
    return np.asarray(np.sqrt(np.maximum(solve(2 * (1 + roundness)), 0)))


def poisson_solver(
    coverage: Float[np.ndarray, "H W"],
) -> Callable[[Float[np.ndarray, "H W"]], Float[np.ndarray, "H W"]]:
    """A solver of laplacian(u) = -source in the silhouette, u = 0 on it and outside. Direct, so deterministic.

    The outline lies where the coverage crosses one half, between the pixels: a neighbour beyond it counts as a zero
    at the outline's own distance.
    """
    inside = coverage > LEVEL
    number = np.full(coverage.shape, -1)
    number[inside] = np.arange(inside.sum())
    diagonal = np.zeros(coverage.shape)
    starts, ends = [], []
    for axis in (0, 1):
        cut = crossings(coverage, axis)
        first, second = _ends(inside, axis)
        lower, upper = _ends(diagonal, axis)
        lower += np.where(first & ~second, 1 / cut, 1)
        upper += np.where(second & ~first, 1 / (1 - cut), 1)
        both = first & second
        here, there = _ends(number, axis)
        starts.append(here[both])
        ends.append(there[both])
    start, end = np.concatenate(starts), np.concatenate(ends)
    count = int(inside.sum())
    matrix = sparse.coo_matrix(
        (
            np.concatenate([-np.ones(2 * len(start)), diagonal[inside]]),
            (np.concatenate([start, end, np.arange(count)]), np.concatenate([end, start, np.arange(count)])),
        ),
        shape=(count, count),
    )
    factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def solve(source: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        u = np.zeros(coverage.shape)
        u[inside] = factors.solve(source[inside])
        return u

    return solve


def _ends(grid: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of the two ends of each grid edge along an axis."""
    return (grid[:-1], grid[1:]) if axis == 0 else (grid[:, :-1], grid[:, 1:])


def _roundness(u: Float[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Ratio of the smaller to the larger curvature of u: 1 in a disc, 0 in a strip; smoothed over the neighbourhood.

    Args:
        u: solution for an even source.
        inside: the silhouette.
    """
    row, column = np.gradient(u)
    row_row, row_column = np.gradient(row)
    _, column_column = np.gradient(column)
    middle = (row_row + column_column) / 2
    spread = np.sqrt(((row_row - column_column) / 2) ** 2 + row_column**2)
    weaker, stronger = -(middle + spread), -(middle - spread)
    ratio = (weaker / np.maximum(stronger, 1e-9)).clip(0, 1)
    # differences across the outline mean nothing
    core = ndimage.binary_erosion(inside, np.ones((3, 3), bool), iterations=2)
    if not core.any():
        return np.zeros_like(u)
    weight = core * u
    # as wide as the silhouette is thick there
    sigma = 0.35 * float(np.sqrt(2 * u.max()))
    total = ndimage.gaussian_filter(weight, sigma, mode="constant")
    return np.asarray(ndimage.gaussian_filter(weight * ratio, sigma, mode="constant") / np.maximum(total, 1e-12))
