"""A closed, coloured surface from the depths of the front and the back of every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.double_sheet import LEVEL, DoubleSheet, double_sheet
from kiss3d_cli.geometry.inflate.guided import guided
from kiss3d_cli.geometry.inflate.heights import height_field, poisson_solver
from kiss3d_cli.geometry.inflate.inflate import pixel_rays, sample_coverage, without_slits
from kiss3d_cli.geometry.inflate.plain import SOURCE
from kiss3d_cli.geometry.inflate.sheet_colors import sample, unfringed
from kiss3d_cli.geometry.mesh import Mesh, vertex_normals

RESOLUTION = 256
LONGEST = 1.9
"""Longest side of an object's box in the bundle's frame, world units."""
TRUST = 0.5
"""Share of a sure prior in the shape; the rest is the inflation that draws on symmetry and roundness. Two guesses whose
errors differ are better than either."""
ROUND = 0.95
"""Depth of that inflation, as of `inflate`."""
THINNEST = 0.004
"""Least thickness anywhere, half picture sides."""
FRONT, SIDE = (0.2, 0.5), (0.25, 0.6)
"""Cosines between the surface and its ray: from where to where the picture, or the view from behind, takes over from
the colours of the sides."""


@dataclass(frozen=True)
class SheetColors:
    """Colours of what the picture does not show, (s, s, 3) each, sRGB-encoded, in [0, 1]."""

    back: Float[np.ndarray, "s s 3"]
    left: Float[np.ndarray, "s s 3"]
    right: Float[np.ndarray, "s s 3"]


def two_sheets(
    alpha: Float[Tensor, "S S"],
    residual: Float[Tensor, "2 s s"],
    trust: Float[Tensor, "s s"],
    rgb: Float[Tensor, "S S 3"] | None = None,
    colors: SheetColors | None = None,
    *,
    tilt: float,
    camera: Cameras | None = None,
    resolution: int = RESOLUTION,
) -> Mesh:
    """The plain inflation, moved to the front and the back that residuals say, closed by walls along the outline.

    A ball's residuals vanish along the outline, and its sheets meet there; a box's do not, and its sheets are joined
    by a wall as high as they are apart. Closed and manifold for every silhouette. The object's box gets the bundle's
    size and place: its middle at the origin, its longest side 1.9.

    Args:
        alpha: coverage of a square picture, in [0, 1].
        residual: towards the camera, in half picture sides; what lies outside the silhouette is not used.
        trust: share of the residuals' shape in [0, 1]; the rest is the silhouette inflated as by `inflate`.
        rgb: the picture, sRGB-encoded, in [0, 1]; no vertex colours if None.
        colors: of what it does not show.
        tilt: depth for each unit upwards of the plane about which is inflated.
        camera: the bundle's front camera if None.
        resolution: samples a side of the surface, at most the picture's own.

    Raises:
        BadInput: the silhouette is empty.
    """
    coverage = sample_coverage(without_slits(alpha), resolution)
    side = coverage.shape[0] - 2
    sheet = double_sheet(coverage)
    faces, vertex = _with_walls(sheet)
    on_picture = ((sheet.points - 1) / side)[vertex.source]
    camera = orbit_cameras([0.0]) if camera is None else camera
    height = np.sqrt(np.maximum(poisson_solver(coverage)(np.full_like(coverage, SOURCE)), 0)) * (2 / side)
    rounded = np.sqrt(height_field(coverage).squared) * (2 * ROUND / side)
    base, round_base = (
        np.where(sheet.side == 0, 0, field.ravel()[sheet.pixel])[vertex.source] for field in (height, rounded)
    )
    said = torch.cat([residual, trust[None]])
    front, back, share = (sample(field[..., None], on_picture)[:, 0] for field in _extended(alpha, said, rgb, side))
    share = share.clip(0, 1)
    half = np.maximum(share * ((front - back) / 2 + base) + (1 - share) * round_base, THINNEST / 2)
    middle = share * (front + back) / 2
    z = tilt * (1 - 2 * on_picture[:, 1]) + middle + vertex.side * half
    points = _placed(on_picture, z, camera)
    mesh = Mesh(torch.from_numpy(_boxed(points)).float(), torch.from_numpy(faces))
    if rgb is None or colors is None:
        return mesh
    rays, _ = pixel_rays(on_picture, camera)
    normals = vertex_normals(mesh.vertices, mesh.faces).double().numpy()
    painted = _painted(rgb.double().numpy(), (alpha > LEVEL).numpy(), colors, on_picture, normals, rays, camera)
    return mesh.with_colors(torch.from_numpy(painted).float())


@dataclass(frozen=True)
class _Vertices:
    """`source`: the double sheet's vertex that each comes from; `side`: 1 in front, -1 behind."""

    source: Int[np.ndarray, " N"]
    side: Int[np.ndarray, " N"]


def _with_walls(sheet: DoubleSheet) -> tuple[Int[np.ndarray, "F 3"], _Vertices]:
    """The sheets cut apart along the outline, and quads between the two cuts.

    front   a --- b        an edge of the outline, seen from the front sheet's own triangle: a to b;
            |     |        the wall's triangles go along it the other way, so every edge has two faces
    back    a'--- b'       of opposite direction
    """
    rim = np.flatnonzero(sheet.side == 0)
    behind = np.arange(len(sheet.points))
    behind[rim] = len(sheet.points) + np.arange(len(rim))
    front, back = np.split(sheet.faces, 2)
    edges = np.concatenate([front[:, [0, 1]], front[:, [1, 2]], front[:, [2, 0]]])
    count = len(sheet.points)
    forward, backward = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    a, b = edges[~np.isin(forward, backward)].T
    walls = np.concatenate([np.stack([b, a, behind[a]], -1), np.stack([b, behind[a], behind[b]], -1)])
    faces = np.concatenate([front, behind[back], walls]).astype(np.int64)
    source = np.concatenate([np.arange(count), rim])
    side = np.concatenate([np.where(sheet.side == 0, 1, sheet.side), np.full(len(rim), -1)])
    return faces, _Vertices(source, side)


def _extended(
    alpha: Float[Tensor, "S S"], said: Float[Tensor, "C s s"], rgb: Float[Tensor, "S S 3"] | None, side: int
) -> Float[np.ndarray, "C n n"]:
    """Coarse maps at the surface's resolution, stepping where the picture does, continued beyond the silhouette by
    the nearest that lie well inside it."""
    size = said.shape[-1]
    coverage = torch.nn.functional.interpolate(alpha[None, None].double(), size=(size, size), mode="area")[0, 0].numpy()
    sure = coverage > 0.9
    # parts thinner than a sample have nothing better than their own
    sure |= (coverage > 0.25) & ~ndimage.binary_dilation(sure, np.ones((3, 3), bool))
    if not sure.any():
        sure = coverage >= coverage.max()
    solid = (alpha > LEVEL).numpy()
    guide = np.ones((*solid.shape, 3)) if rgb is None else unfringed(rgb.double().numpy(), solid.astype(np.float64))
    return guided(said.double().numpy(), guide, sure, side)


def _placed(
    on_picture: Float[np.ndarray, "N 2"], z: Float[np.ndarray, " N"], camera: Cameras
) -> Float[np.ndarray, "N 3"]:
    """World points on their pixels' rays, z half picture sides before the plane through the origin."""
    rays, center = pixel_rays(on_picture, camera)
    distance = float(np.linalg.norm(center))
    unit = distance / float(camera.projection[0, 0, 0])
    # the rays are one long along the view axis
    return np.asarray(center + rays * (distance - unit * z)[:, None])


def _boxed(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    low, high = points.min(0), points.max(0)
    return np.asarray((points - (low + high) / 2) * (LONGEST / (high - low).max()))


def _painted(
    rgb: Float[np.ndarray, "S S 3"],
    solid: np.ndarray,
    colors: SheetColors,
    on_picture: Float[np.ndarray, "N 2"],
    normals: Float[np.ndarray, "N 3"],
    rays: Float[np.ndarray, "N 3"],
    camera: Cameras,
) -> Float[np.ndarray, "N 3"]:
    """The picture where it looks at the surface, the colours from behind on the back, those of the sides between."""
    facing = -(normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    across = normals @ camera.rotation[0, 0].double().numpy()
    own = sample(unfringed(rgb, solid.astype(np.float64)), on_picture)
    back, left, right = (
        sample(np.asarray(c, np.float64), on_picture) for c in (colors.back, colors.left, colors.right)
    )
    to_right = _smooth(across, -0.3, 0.3)[:, None]
    around = to_right * right + (1 - to_right) * left
    front_share, back_share = _smooth(facing, *FRONT)[:, None], _smooth(-facing, *SIDE)[:, None]
    mixed = front_share * own + back_share * back + (1 - front_share - back_share) * around
    return np.asarray(mixed.clip(0, 1))


def _smooth(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = ((values - low) / (high - low)).clip(0, 1)
    return np.asarray(t * t * (3 - 2 * t))
