"""Sphere tracing: pictures and bundles of a shape, with no mesh and no rasteriser in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.geometry.cameras import FIELD_OF_VIEW, Cameras, bundle_cameras

from .field import Field, Hits, cast
from .sdf import Distances, Points

Look = Callable[[Hits, Tensor], Float[Tensor, "3 K"]]
FINE = 2
"""Samples along each side of a pixel at an edge."""


@dataclass(frozen=True)
class Light:
    """A soft key light and a dome: all colours linear."""

    direction: tuple[float, float, float] = (-0.55, 0.75, 0.62)
    key: tuple[float, float, float] = (1.5, 1.4, 1.26)
    sky: tuple[float, float, float] = (0.62, 0.68, 0.78)
    ground: tuple[float, float, float] = (0.34, 0.30, 0.27)
    rim: tuple[float, float, float] = (0.45, 0.5, 0.6)
    sharpness: float = 9.0
    """Of the shadow's edge: large is a small light."""


STUDIO = Light()


def rays(
    cameras: Cameras,
    view: int,
    size: int,
    rows: Int[Tensor, " M"] | None = None,
    columns: Int[Tensor, " M"] | None = None,
) -> tuple[Float[Tensor, " 3"], Points]:
    """The origin and the unit directions (3, M) through centres of a view's pixels: all, or those given.

    Rows and columns outside [0, size) are of a larger picture by the same camera.
    """
    if rows is None or columns is None:
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    half = math.tan(math.radians(FIELD_OF_VIEW) / 2)
    u = ((columns.flatten() + 0.5) / size * 2 - 1) * half
    v = (1 - (rows.flatten() + 0.5) / size * 2) * half
    local = F.normalize(torch.stack([u, v, -torch.ones_like(u)]), dim=0)
    x, y, z = cameras.rotation[view][:, :, None]
    return cameras.centers[view], x * local[0] + y * local[1] + z * local[2]


def occlusion(field: Field, points: Points, normals: Points, reach: float = 0.35, samples: int = 5) -> Distances:
    """Ambient light that gets through, in [0, 1]: how far the distance lags behind steps along the normal."""
    lag = torch.zeros_like(points[0])
    for sample in range(1, samples + 1):
        height = reach * (sample / samples) ** 2
        gap = (height - field.rough(points + normals * height)).clamp_min(0) / height
        lag = lag + 0.8 ** (sample - 1) * gap
    return (1 - 0.42 * lag).clamp(0, 1)


def shadow(field: Field, points: Points, normals: Points, light: Light, reach: float = 2.5) -> Distances:
    """Key light that arrives, in [0, 1]: the narrowest gap passed on the way, relative to its distance."""
    direction = F.normalize(torch.tensor(light.direction), dim=0)[:, None]
    base = points + normals * 0.5 * field.cell
    t = torch.full_like(base[0], 0.5 * field.cell)
    gap = torch.ones_like(t)
    going = torch.arange(len(t))
    for _ in range(64):
        at = base[:, going] + direction * t[going]
        d = field.rough(at)
        gap[going] = torch.minimum(gap[going], 0.5 + 0.5 * light.sharpness * d / t[going])
        t[going] += d.clamp(0.012, 0.12)
        going = going[(t[going] < reach) & (gap[going] > 0)]
        if not len(going):
            break
    gap = gap.clamp(0, 1)
    return gap * gap * (3 - 2 * gap)


def shade(field: Field, hits: Hits, origin: Tensor, light: Light = STUDIO) -> Float[Tensor, "3 K"]:
    """sRGB-encoded colour of lit points: key light with a soft shadow, dome, rim, a glossy reflection."""
    n = hits.normals
    view = F.normalize(origin[:, None] - hits.points, dim=0)
    key = F.normalize(torch.tensor(light.direction), dim=0)[:, None]
    open_ = occlusion(field, hits.points, n)
    lit = shadow(field, hits.points, n, light) * _dot(n, key).clamp_min(0)
    albedo, gloss = to_linear(hits.paint[:3]), hits.paint[3]
    up = 0.5 + 0.5 * n[1]
    dome = torch.lerp(_column(light.ground), _column(light.sky), up) * open_
    facing = _dot(n, view).clamp(0, 1)
    rim = _column(light.rim) * ((1 - facing) ** 3 * (0.3 + 0.7 * up) * open_)
    diffuse = albedo * (dome + _column(light.key) * lit + 0.35 * rim)
    mirror = 2 * facing * n - view
    fresnel = 0.04 + 0.96 * (1 - facing) ** 5
    tight = 12 + 240 * gloss**2
    highlight = _dot(mirror, key).clamp_min(0) ** tight * (0.3 + 0.03 * tight) * lit.clamp(0, 1)
    panel = _softbox(mirror, tight)
    reflected = _column(light.sky) * (0.5 + 0.5 * mirror[1]) + panel
    specular = gloss * (_column(light.key) * highlight * 0.22 + reflected * fresnel * open_ * 1.3)
    return to_srgb(tone(diffuse + specular + 0.25 * gloss * rim))


def _softbox(mirror: Points, tight: Distances) -> Float[Tensor, "1 K"]:
    """The reflection of a square window up on the right; its edge is as soft as the gloss is low."""
    soft = 1.2 / tight.sqrt()
    u = mirror[0] - 0.55
    v = mirror[1] - 0.45
    inside = ((0.22 - u.abs()) / soft + 0.5).clamp(0, 1) * ((0.26 - v.abs()) / soft + 0.5).clamp(0, 1)
    return (6.0 * inside * (mirror[2] > 0))[None]


def picture(field: Field, size: int, light: Light = STUDIO) -> Float[Tensor, "H W 4"]:
    """The front view, lit, with alpha; colours not multiplied by it."""

    def look(hits: Hits, origin: Tensor) -> Float[Tensor, "3 K"]:
        return shade(field, hits, origin, light)

    return _smooth_image(field, bundle_cameras(), 0, size, look)


def bundle(field: Field, size: int) -> Float[Tensor, "H W 3"]:
    """The ground-truth 2 x 4 bundle (docs/conventions.md) with tiles of `size` pixels, values in [0, 1].

    The normal row is sampled at pixel centres, so its mask is hard; the RGB row's edges are smooth.
    """
    cameras = bundle_cameras()
    colors, normals = [], []
    for view in range(len(cameras)):
        origin, directions = rays(cameras, view, size)
        hits = cast(field, origin, directions)
        normals.append(_normal_tile(hits, cameras, view, size))
        flat = _smooth_image(field, cameras, view, size, lambda h, o: flat_shade(field, h, o), hits)
        colors.append(flat[..., :3] * flat[..., 3:] + (1 - flat[..., 3:]))
    return torch.cat([torch.cat(colors, 1), torch.cat(normals, 1)], 0)


def flat_shade(field: Field, hits: Hits, origin: Tensor) -> Float[Tensor, "3 K"]:
    """sRGB-encoded colour under an even light from the camera: nearly the paint itself."""
    view = F.normalize(origin[:, None] - hits.points, dim=0)
    even = 0.72 + 0.28 * _dot(hits.normals, view).clamp(0, 1)
    return to_srgb(to_linear(hits.paint[:3]) * even * (0.6 + 0.4 * occlusion(field, hits.points, hits.normals)))


def _normal_tile(hits: Hits, cameras: Cameras, view: int, size: int) -> Float[Tensor, "H W 3"]:
    x, y, z = cameras.rotation[view][:, :, None]
    local = torch.stack([-_dot(x, hits.normals), _dot(y, hits.normals), _dot(z, hits.normals)])
    tile = torch.ones(3, size * size)
    tile[:, hits.index] = (local + 1) / 2
    return tile.reshape(3, size, size).permute(1, 2, 0)


def _smooth_image(
    field: Field, cameras: Cameras, view: int, size: int, look: Look, hits: Hits | None = None
) -> Float[Tensor, "H W 4"]:
    """A view with alpha: one ray a pixel, then the mean of FINE^2 others where neighbouring pixels differ."""
    origin, directions = rays(cameras, view, size)
    hits = cast(field, origin, directions) if hits is None else hits
    flat = torch.zeros(4, size * size)
    flat[:3, hits.index] = look(hits, origin)
    flat[3, hits.index] = 1
    edge = _edges(flat.reshape(4, size, size)).flatten()
    rows, columns = torch.nonzero(edge.reshape(size, size)).unbind(1)
    sub = torch.arange(FINE)
    fine_rows = (rows[:, None, None] * FINE + sub[:, None]).expand(-1, FINE, FINE).flatten()
    fine_columns = (columns[:, None, None] * FINE + sub).expand(-1, FINE, FINE).flatten()
    _, directions = rays(cameras, view, size * FINE, fine_rows, fine_columns)
    hits = cast(field, origin, directions)
    fine = torch.zeros(4, directions.shape[1])
    fine[:3, hits.index] = look(hits, origin)
    fine[3, hits.index] = 1
    alpha = fine[3].reshape(-1, FINE * FINE).mean(1)
    flat[:3, edge] = fine[:3].reshape(3, -1, FINE * FINE).mean(2) / alpha.clamp_min(1e-6)
    flat[3, edge] = alpha
    return flat.reshape(4, size, size).permute(1, 2, 0)


def _edges(image: Float[Tensor, "4 H W"], limit: float = 0.12) -> Bool[Tensor, "H W"]:
    padded = F.pad(image[None], (1, 1, 1, 1), mode="replicate")
    return (F.max_pool2d(padded, 3, 1) + F.max_pool2d(-padded, 3, 1)).amax((0, 1)) > limit


def tone(linear: Float[Tensor, "3 K"]) -> Float[Tensor, "3 K"]:
    """Linear up to 0.6, then a soft shoulder to 1."""
    knee = 0.6
    over = (linear - knee).clamp_min(0)
    return linear.clamp_max(knee) + (1 - knee) * (1 - torch.exp(-over / (1 - knee)))


def to_linear(srgb: Tensor) -> Tensor:
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)


def _column(color: tuple[float, float, float]) -> Float[Tensor, "3 1"]:
    return torch.tensor(color)[:, None]


def _dot(a: Points, b: Points) -> Distances:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
