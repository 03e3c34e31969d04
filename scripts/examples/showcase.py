"""Objects for pictures of results: drawn once, for the README, and never used to choose or to tune a method.

Each stands or floats before a plain backdrop and casts a soft shadow, as in a photograph of a product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.geometry.cameras import bundle_cameras

from .field import Field
from .patterns import mixed, noise, rgb, speckled, spokes, stripes
from .render import STUDIO, picture, rays, shadow
from .sdf import Shape, box, cone, cylinder, ellipsoid, half_space, intersection, prism, revolved, sphere, torus, union

BACKDROP = rgb("#c3ccd1")
DARKEST = 0.45
"""Share of the backdrop's light that the shadow takes where it is darkest."""


def penguin() -> Shape:
    """A penguin with a scarf, looking at the viewer."""
    black, white, orange = rgb("#2b2f3a"), rgb("#f6f3ea"), rgb("#ef9a2d")
    trunk = union(ellipsoid(0.5, 0.62, 0.44), sphere(0.37).at(0, 0.62, 0.02), smooth=0.12)
    trunk = trunk.painted(mixed(black, rgb("#3a4152"), noise(0.12, 3, octaves=2)), 0.3)
    belly = ellipsoid(0.36, 0.5, 0.3).at(0, -0.06, 0.3).painted(speckled(white, 0.08, 0.05, 1), 0.2)
    face = ellipsoid(0.15, 0.17, 0.2).at(0.12, 0.66, 0.28).mirrored().painted(white, 0.2)
    trunk = trunk.decal(belly, 0.01).decal(face, 0.01)
    wing = ellipsoid(0.1, 0.36, 0.2).turned("z", 16).at(0.52, -0.02, 0.0).mirrored().painted(black, 0.3)
    foot = ellipsoid(0.19, 0.07, 0.26).turned("y", 14).at(0.21, -0.6, 0.2).mirrored().painted(orange, 0.3)
    beak = cone((0, 0.6, 0.34), (0, 0.57, 0.55), 0.085, 0.03).painted(orange, 0.5)
    eye = sphere(0.048).at(0.13, 0.72, 0.335).mirrored().painted(rgb("#16181d"), 0.9)
    glint = sphere(0.016).at(0.145, 0.74, 0.372).mirrored().painted(white, 0.9)
    knit = spokes(rgb("#c43d3d"), rgb("#8f2230"), 22)
    scarf = union(
        torus(0.34, 0.085).at(0, 0.36, 0.02).painted(knit, 0.1),
        box(0.085, 0.2, 0.04, 0.03)
        .turned("z", -9)
        .at(0.19, 0.17, 0.4)
        .painted(stripes(rgb("#c43d3d"), white, 1, 0.1), 0.1),
        smooth=0.02,
    )
    return union(union(trunk, wing, foot, smooth=0.04), beak, eye, glint, scarf, smooth=0.008)


def lighthouse() -> Shape:
    """A striped lighthouse on a rock."""
    white, red, iron = rgb("#f4efe4"), rgb("#c8372f"), rgb("#39424e")
    rough = noise(0.22, 8, octaves=3)
    rock = ellipsoid(0.62, 0.22, 0.55).displaced(lambda p: 0.09 * (rough(p) - 0.5))
    rock = rock.painted(mixed(rgb("#7d7a74"), rgb("#4d5a44"), noise(0.15, 9, octaves=2)), 0.1).at(0, -0.86, 0)
    tower = cone((0, -0.75, 0), (0, 0.5, 0), 0.3, 0.19).painted(stripes(white, red, 1, 0.5, phase=0.1), 0.35)
    door = box(0.08, 0.13, 0.1, 0.03).at(0, -0.6, 0.28).painted(rgb("#5b3a24"), 0.2)
    window = union(
        *(
            cylinder(0.05, 0.06, 0.01).turned("x", 90).at(x, y, z)
            for x, y, z in ((0.03, -0.2, 0.25), (-0.03, 0.2, 0.22))
        )
    )
    gallery = cylinder(0.27, 0.035).at(0, 0.53, 0).painted(iron, 0.5)
    rail = union(torus(0.26, 0.012).at(0, 0.66, 0), cone((0.26, 0.54, 0), (0.26, 0.66, 0), 0.012).around(12))
    lamp = cylinder(0.15, 0.13).at(0, 0.69, 0).painted(mixed(rgb("#ffe08a"), rgb("#fff6d8"), noise(0.1, 2)), 0.9)
    roof = cone((0, 0.82, 0), (0, 1.02, 0), 0.19, 0.03).painted(red, 0.4)
    knob = sphere(0.04).at(0, 1.07, 0).painted(iron, 0.8)
    built = union(
        tower, door, window.painted(iron, 0.6), gallery, rail.painted(iron, 0.5), lamp, roof, knob, smooth=0.006
    )
    return union(rock, built, smooth=0.03)


def cupcake() -> Shape:
    """A cupcake with frosting, sprinkles and a cherry."""
    paper = revolved([(0, -0.62), (0.42, -0.62), (0.45, -0.58), (0.6, 0.02), (0.57, 0.06), (0, 0.06)], steps=2)
    paper = paper.painted(spokes(rgb("#5aa6a6"), rgb("#d8ecdf"), 26), 0.2)
    swirl = [
        torus(radius, thick).turned("x", tilt).at(0, height, 0)
        for radius, thick, height, tilt in ((0.42, 0.2, 0.12, 2), (0.3, 0.19, 0.34, -3), (0.16, 0.17, 0.54, 3))
    ]
    cream = union(
        *swirl, ellipsoid(0.45, 0.3, 0.45).at(0, 0.2, 0), ellipsoid(0.2, 0.24, 0.2).at(0, 0.6, 0), smooth=0.06
    )
    cream = cream.painted(mixed(rgb("#f7d3dc"), rgb("#f2b3c4"), noise(0.2, 5, octaves=2)), 0.35)
    colors = ("#e8c547", "#5c80bc", "#e86252", "#7fb069")
    sprinkles = [
        cone((-0.05, 0, 0), (0.05, 0, 0), 0.018)
        .painted(rgb(colors[k % 4]), 0.5)
        .turned("y", 57 * k)
        .turned("x", 14 * (k % 5))
        .at(0, height, radius)
        .turned("y", 137.5 * k)
        for k, (height, radius) in enumerate([(0.16, 0.61), (0.4, 0.47), (0.28, 0.56), (0.58, 0.3), (0.48, 0.4)] * 5)
    ]
    cherry = sphere(0.14).at(0.02, 0.86, 0.03).painted(mixed(rgb("#a3142a"), rgb("#d6304a"), noise(0.1, 7)), 1.0)
    stalk = cone((0.02, 0.96, 0.03), (0.09, 1.16, 0), 0.018, 0.012).painted(rgb("#5c7a35"), 0.2)
    return union(paper, union(cream, *sprinkles, smooth=0.008), cherry, stalk, smooth=0.01)


def goldfish() -> Shape:
    """A goldfish, seen from its side."""
    gold, deep, cream = rgb("#f08c24"), rgb("#d4571c"), rgb("#fbe3b8")
    body = ellipsoid(0.68, 0.42, 0.27).painted(mixed(gold, deep, noise([0.09, 0.06, 0.09], 2, octaves=2)), 0.6)
    under = half_space((0, 1, 0), -0.12).painted(mixed(cream, gold, noise(0.1, 4)), 0.6)
    body = body.decal(under, 0.04)
    tail = prism([(-0.52, 0.02), (-0.98, 0.4), (-1.1, 0.3), (-0.94, 0.02), (-1.08, -0.32), (-0.94, -0.4)], 0.05, 0.04)
    back = prism([(0.25, 0.36), (-0.05, 0.68), (-0.4, 0.58), (-0.48, 0.26)], 0.045, 0.04)
    belly = prism([(0.05, -0.36), (-0.12, -0.62), (-0.32, -0.56), (-0.3, -0.32)], 0.045, 0.04)
    fins = union(tail, back, belly).painted(stripes(gold, rgb("#f7b25a"), 0, 0.07), 0.4)
    side = ellipsoid(0.17, 0.1, 0.04).turned("z", 24).at(-0.02, -0.12, 0.27).painted(rgb("#f7b25a"), 0.4)
    gill = intersection(torus(0.24, 0.012).turned("x", 90).at(0.26, 0.0, 0.235), half_space((1, 0, 0), 0.24))
    eye = union(
        sphere(0.085).at(0.44, 0.1, 0.175).painted(rgb("#fdf6e0"), 0.8),
        sphere(0.05).at(0.46, 0.1, 0.225).painted(rgb("#15171c"), 1.0),
    )
    mouth = torus(0.045, 0.022).turned("z", 90).at(0.67, -0.03, 0).painted(deep, 0.5)
    return union(union(body, fins, smooth=0.05), side, gill.painted(deep, 0.4), eye, mouth, smooth=0.012)


SHOWCASE: dict[str, Callable[[], Shape]] = {
    "penguin": penguin,
    "lighthouse": lighthouse,
    "cupcake": cupcake,
    "goldfish": goldfish,
}


def photographed(field: Field, size: int) -> Float[Tensor, "S S 3"]:
    """The front view before a plain backdrop, with the object's shadow on the floor that it stands on."""
    front = picture(field, size)
    camera = bundle_cameras()
    origin, directions = rays(camera, 0, size)
    floor = _lowest(field) - 0.5 * field.cell
    below = directions[1] < -1e-3
    reach = (floor - origin[1]) / directions[1].clamp_max(-1e-3)
    points = origin[:, None] + directions * reach
    near = below & (points.norm(dim=0) < 2.6)
    up = torch.tensor([[0.0], [1.0], [0.0]]).expand(3, int(near.sum())).contiguous()
    lit = torch.ones(size * size)
    lit[near] = shadow(field, points[:, near].contiguous(), up, STUDIO)
    dark = DARKEST * (1 - lit) * (1 - points.norm(dim=0) / 2.6).clamp(0, 1)
    ground = torch.tensor(BACKDROP) * (1 - dark.reshape(size, size, 1))
    return front[..., :3] * front[..., 3:] + ground * (1 - front[..., 3:])


def _lowest(field: Field) -> float:
    """Height of the lowest layer of the grid with a point inside the object."""
    layers = (field.grid[0, 0] < 0.3 * field.cell).any(2).any(0).nonzero()
    return -field.reach + int(layers[0]) * field.cell
