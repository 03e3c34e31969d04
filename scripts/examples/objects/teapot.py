"""A glazed teapot: spout to the right, handle to the left, a flower in front, a bird's eye pattern behind."""

from __future__ import annotations

from ..patterns import mixed, noise, rgb, speckled, spokes
from ..sdf import Color, Shape, box, cone, cylinder, ellipsoid, revolved, sphere, torus, tube, union

CREAM, BLUE, SKY = rgb("#f4ead6"), rgb("#24568f"), rgb("#7fb2cf")
CORAL, LEAF, GOLD = rgb("#e2604a"), rgb("#4f8a5b"), rgb("#e3b23c")


def build() -> Shape:
    pot = union(_body(), _spout(), _handle(), smooth=0.05)
    return union(pot, _lid(), smooth=0.008).turned("y", -14)


def _glaze(color: tuple[float, float, float], seed: int) -> Color:
    return speckled(color, 0.05, 0.07, seed)


def _band(low: float, high: float, color: Color) -> Shape:
    return box(2, (high - low) / 2, 2, 0.0).at(0, (low + high) / 2, 0).painted(color, 0.95)


def _body() -> Shape:
    body = revolved(
        [(0, -0.54), (0.3, -0.54), (0.35, -0.5), (0.36, -0.46), (0.53, -0.32), (0.65, -0.04), (0.6, 0.22), (0.44, 0.4),
         (0.34, 0.45), (0.33, 0.48), (0.28, 0.48), (0, 0.47)],
        steps=2,
    ).painted(_glaze(CREAM, 1), 0.95)  # fmt: skip
    body = body.decal(_band(-0.6, -0.36, _glaze(BLUE, 2))).decal(_band(-0.33, -0.305, BLUE))
    body = body.decal(_band(0.27, 0.6, spokes(_glaze(BLUE, 3), SKY, 30, 0.5))).decal(_band(0.235, 0.255, BLUE))
    body = body.decal(cylinder(0.345, 0.1, 0.0).at(0, 0.45, 0).painted(GOLD, 0.95))
    for part in _flower():
        body = body.decal(part)
    for k in range(5):
        x, y = -0.36 + 0.18 * k, -0.04 + 0.08 * (k % 2)
        ring = sphere(0.075).painted(BLUE, 0.95).at(x, y, -0.64 + 0.55 * x * x)
        body = body.decal(ring).decal(sphere(0.045).painted(GOLD, 0.95).at(x, y, -0.64 + 0.55 * x * x))
    return body


def _flower() -> list[Shape]:
    """Flat paint on the front, built of long volumes that pierce the surface along z."""
    deep = 0.35
    stem = [
        cone((-0.02, -0.02, 0.6), (-0.2, -0.22, 0.55), 0.014),
        cone((-0.02, -0.02, 0.6), (0.2, -0.2, 0.55), 0.012),
    ]
    leaves = [
        ellipsoid(0.13, 0.05, deep).turned("z", angle).at(x, y, 0.6)
        for x, y, angle in (
            (-0.27, -0.12, 35),
            (-0.1, -0.22, -35),
            (0.25, -0.08, -20),
            (0.13, -0.23, 40),
            (-0.3, 0.04, 75),
        )
    ]
    petals = [
        ellipsoid(0.062, 0.11, deep).at(0, 0.1, 0).turned("z", 60 * k + 12).at(-0.02, 0.05, 0.6) for k in range(6)
    ]
    small = [ellipsoid(0.035, 0.05, deep).at(0, 0.045, 0).turned("z", 72 * k).at(0.3, 0.11, 0.5) for k in range(5)]
    blush = mixed(CORAL, rgb("#f2a07b"), noise(0.06, 5))
    return [
        *(part.painted(LEAF, 0.95) for part in stem),
        *(part.painted(mixed(LEAF, rgb("#7fb069"), noise(0.05, 4)), 0.95) for part in leaves),
        *(part.painted(blush, 0.95) for part in petals),
        *(part.painted(SKY, 0.95) for part in small),
        ellipsoid(0.06, 0.06, deep).painted(GOLD, 0.95).at(-0.02, 0.05, 0.6),
        ellipsoid(0.025, 0.025, deep).painted(GOLD, 0.95).at(0.3, 0.11, 0.5),
    ]


def _spout() -> Shape:
    tube_ = tube(
        [(0.46, -0.2, 0), (0.74, -0.12, 0), (0.88, 0.16, 0), (1.04, 0.38, 0)], [0.19, 0.125, 0.085, 0.08]
    ).painted(_glaze(CREAM, 1), 0.95)
    lip = torus(0.07, 0.022).turned("z", -34).at(1.05, 0.41, 0).painted(GOLD, 0.95)
    hole = cone((1.02, 0.37, 0), (1.14, 0.55, 0), 0.055).painted(rgb("#3b2a20"), 0.1)
    ring = torus(0.105, 0.02).turned("z", -38).at(0.8, 0.0, 0).painted(BLUE, 0.95)
    return union(union(tube_, lip, smooth=0.02).cut(hole, smooth=0.015), ring, smooth=0.02)


def _handle() -> Shape:
    loop = tube(
        [(-0.54, 0.24, 0), (-0.78, 0.36, 0), (-0.99, 0.14, 0), (-0.9, -0.16, 0), (-0.58, -0.24, 0)],
        [0.07, 0.06, 0.058, 0.06, 0.07],
        steps=8,
    ).painted(_glaze(BLUE, 6), 0.95)
    thumb = sphere(0.05).at(-0.8, 0.42, 0).painted(GOLD, 0.95)
    return union(loop, thumb, smooth=0.03)


def _lid() -> Shape:
    dome = revolved([(0, 0.66), (0.13, 0.64), (0.25, 0.56), (0.31, 0.49), (0.3, 0.46), (0, 0.46)], steps=2)
    dome = dome.painted(_glaze(BLUE, 8), 0.95)
    dots = [sphere(0.032).painted(CREAM, 0.95).at(0, 0.55, 0.262).turned("y", 36 * k) for k in range(10)]
    for dot in dots:
        dome = dome.decal(dot)
    knob = union(cylinder(0.035, 0.05).at(0, 0.68, 0), sphere(0.075).at(0, 0.77, 0), smooth=0.05)
    return union(dome, knob.painted(GOLD, 0.95), smooth=0.03)
