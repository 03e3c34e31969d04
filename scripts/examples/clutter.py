"""The same picture on a busy background: a table, a wall and odd things on it, out of focus, and no alpha."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.geometry.cameras import bundle_cameras

from .field import Field, cast, sampled
from .patterns import checker, mixed, noise, rgb, speckled, stripes, wood
from .render import STUDIO, Light, rays, shade, shadow
from .sdf import Color, Shape, box, cone, cylinder, half_space, sphere, torus, union

ROOM = 3.0
WALL = -1.9
ASPECT = 4 / 3
INK = [rgb(c) for c in ("#b8402f", "#2f6f8f", "#d9a441", "#4d7a46", "#efe3cc", "#6b4a7d", "#c9764a", "#39424e")]


def cluttered(
    field: Field, picture: Float[Tensor, "S S 4"], seed: int, light: Light = STUDIO
) -> Float[Tensor, "S W 3"]:
    """The picture's object, a little off the middle, in a room; its shadow falls on the table.

    Args:
        field: the object, standing on its lowest point.
        picture: the object from the bundle's front camera, with alpha.
    """
    size = picture.shape[0]
    width = round(size * ASPECT / 2) * 2
    random_ = random.Random(seed)
    shift = random_.choice((-1, 1)) * round(0.06 * size)
    left = (width - size) // 2 + shift
    floor = _lowest(field)
    room = sampled(_room(field, floor, random_), ROOM, field.grid.shape[-1])
    half = size // 2  # half the resolution: out of focus
    rows, columns = torch.meshgrid(torch.arange(half), torch.arange(width // 2) - left // 2, indexing="ij")
    origin, directions = rays(bundle_cameras(), 0, half, rows.flatten(), columns.flatten())
    hits = cast(room, origin, directions)
    lit = shadow(field, hits.points, hits.normals, light)
    contact = 1 - 0.55 * torch.exp(-field.rough(hits.points).clamp_min(0) / 0.12)
    background = torch.ones(3, half * (width // 2))
    background[:, hits.index] = shade(room, hits, origin, light) * (0.5 + 0.5 * lit) * contact
    background = F.interpolate(
        background.reshape(1, 3, half, width // 2), size=(size, width), mode="bicubic", align_corners=False
    )[0].clamp(0, 1)
    background = _blurred(background, size / 256).permute(1, 2, 0).clone()
    under = background[:, left : left + size]
    background[:, left : left + size] = torch.lerp(under, picture[..., :3], picture[..., 3:])
    grain = torch.randn(background.shape, generator=torch.Generator().manual_seed(seed))
    return (background + 0.008 * grain).clamp(0, 1)


def _blurred(image: Float[Tensor, "3 H W"], sigma: float) -> Float[Tensor, "3 H W"]:
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1).contiguous()
    padded = F.pad(image[None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3).contiguous(), groups=3)[0]


def _lowest(field: Field) -> float:
    """Height of the grid's lowest layer with a point inside the object."""
    layers = (field.grid[0, 0] < 0.3 * field.cell).any(2).any(0).nonzero()
    return -field.reach + int(layers[0]) * field.cell


def _room(field: Field, floor: float, random_: random.Random) -> Shape:
    plank = random_.choice((("#a8794a", "#7c5230"), ("#8a5a3c", "#5f3a25"), ("#c9a878", "#a98553")))
    table = half_space((0, 1, 0), floor).painted(wood(rgb(plank[0]), rgb(plank[1]), axis=0, ring=0.09), 0.35)
    wall = half_space((0, 0, 1), WALL).painted(_wallpaper(random_), 0.05)
    things: list[Shape] = []
    spots: list[tuple[float, float, float]] = []
    for _ in range(400):
        radius = random_.uniform(0.14, 0.36)
        x, z = random_.uniform(-2.1, 2.1), random_.uniform(WALL + 0.35, -0.1)
        at = torch.tensor([[x], [floor + radius], [z]])
        free = float(field.rough(at)) > radius + 0.05
        if free and all((x - a) ** 2 + (z - b) ** 2 > 0.8 * (radius + r) ** 2 for a, b, r in spots):
            spots.append((x, z, radius))
            things.append(_thing(radius, random_).turned("y", random_.uniform(0, 360)).at(x, floor, z))
        if len(things) == 13:
            break
    return union(table, wall, *things)


def _wallpaper(random_: random.Random) -> Color:
    a, b = random_.sample(INK, 2)
    pale = tuple(0.45 + 0.5 * c for c in a)
    kind = random_.randrange(3)
    if kind == 0:
        return stripes(pale, tuple(0.3 + 0.6 * c for c in b), 0, 0.34)
    if kind == 1:
        return checker(pale, tuple(0.4 + 0.5 * c for c in b), 0.28)
    return mixed(pale, tuple(0.3 + 0.55 * c for c in b), noise(0.22, random_.randrange(99), octaves=3))


def _thing(radius: float, random_: random.Random) -> Shape:
    """Something about `radius` in half width that stands on y = 0."""
    a, b = random_.sample(INK, 2)
    pattern: Color = random_.choice(
        (
            a,
            stripes(a, b, 1, radius * 0.5),
            checker(a, b, radius * 0.45),
            speckled(a, radius * 0.4, 0.5, random_.randrange(99)),
        )
    )
    gloss = random_.choice((0.1, 0.5, 0.8))
    kind = random_.randrange(5)
    if kind == 0:
        return sphere(radius).painted(pattern, gloss).at(0, radius, 0)
    if kind == 1:
        tall = radius * random_.uniform(0.8, 1.8)
        return box(radius * 0.7, tall, radius * 0.5, 0.02).painted(pattern, gloss).at(0, tall, 0)
    if kind == 2:
        cup = cylinder(radius * 0.7, radius, 0.03).painted(pattern, gloss)
        handle = torus(radius * 0.45, radius * 0.11).turned("x", 90).painted(b, gloss).at(radius * 0.75, 0, 0)
        return union(cup, handle, smooth=0.02).at(0, radius, 0)
    if kind == 3:
        books = [
            box(radius, radius * 0.18, radius * 0.75, 0.015)
            .painted(random_.choice(INK), 0.3)
            .turned("y", random_.uniform(-25, 25))
            .at(0, radius * (0.18 + 0.37 * k), 0)
            for k in range(random_.randint(2, 5))
        ]
        return union(*books)
    return cone((0, radius * 0.5, 0), (0, radius * 2.2, 0), radius * 0.5, radius * 0.12).painted(pattern, gloss)
