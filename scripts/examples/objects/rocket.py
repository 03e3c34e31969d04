"""A toy rocket on three fins: window in front, hatch behind, booster to the left, dish to the right."""

from __future__ import annotations

from ..patterns import checker, mixed, noise, rgb, speckled, spokes
from ..sdf import Color, Shape, box, cone, ellipsoid, prism, revolved, sphere, torus, union

CREAM, RED, NAVY, STEEL, GOLD = rgb("#f2ead9"), rgb("#d63b31"), rgb("#263a63"), rgb("#a5adb5"), rgb("#efb73e")


def build() -> Shape:
    fins = union(*(_fin().turned("y", turn) for turn in (-8, 112, 232)))
    hull = union(_hull(), fins, smooth=0.04)
    return union(hull, _nozzle(), _window(), _hatch(), _booster(), _dish(), smooth=0.012)


def _enamel(color: tuple[float, float, float], seed: int) -> Color:
    return speckled(color, 0.12, 0.06, seed)


def _hull() -> Shape:
    hull = revolved(
        [(0, -0.6), (0.22, -0.6), (0.26, -0.56), (0.33, -0.3), (0.365, 0.0), (0.34, 0.3), (0.25, 0.6), (0.12, 0.82),
         (0.035, 0.93), (0, 0.95)],
        steps=2,
    ).painted(_enamel(CREAM, 1), 0.75)  # fmt: skip
    nose = box(1, 0.5, 1, 0.0).at(0, 1.02, 0).painted(_enamel(RED, 2), 0.85)
    ring = box(1, 0.018, 1, 0.0).at(0, 0.49, 0).painted(GOLD, 0.9)
    belt = box(1, 0.075, 1, 0.0).at(0, -0.3, 0).painted(_chequers(), 0.7)
    tail = box(1, 0.08, 1, 0.0).at(0, -0.53, 0).painted(_enamel(NAVY, 3), 0.7)
    hull = hull.decal(nose).decal(ring).decal(belt).decal(tail)
    for y in (-0.14, 0.38):
        seam = box(1, 0.004, 1, 0.0).at(0, y, 0).painted(rgb("#b9ad95"))
        hull = hull.decal(seam)
    rivets = union(*(sphere(0.016).at(0, y, r).around(16) for y, r in ((-0.19, 0.345), (0.43, 0.305))))
    tip = union(cone((0, 0.92, 0), (0, 1.06, 0), 0.014), sphere(0.03).at(0, 1.06, 0)).painted(GOLD, 0.9)
    return union(hull, rivets.painted(STEEL, 0.9), tip, smooth=0.01)


def _chequers() -> Color:
    flags = spokes(NAVY, CREAM, 16)
    shifted = spokes(CREAM, NAVY, 16)
    return mixed(flags, shifted, lambda p: (p[1] > 0).float())


def _fin() -> Shape:
    """It points to +x."""
    blade = prism(
        [(0.2, -0.06), (0.42, -0.23), (0.58, -0.5), (0.61, -0.84), (0.53, -0.84), (0.43, -0.6), (0.2, -0.46)],
        0.045,
        0.03,
    )
    blade = blade.painted(_enamel(RED, 5), 0.85)
    edge = prism([(0.45, -1.1), (0.8, -1.1), (0.8, -0.68), (0.45, -0.68)], 1, 0.0).painted(GOLD, 0.85)
    return blade.decal(edge)


def _nozzle() -> Shape:
    bell = revolved(
        [(0, -0.58), (0.13, -0.58), (0.17, -0.64), (0.21, -0.74), (0.19, -0.75), (0.1, -0.7), (0, -0.69)], steps=2
    )
    fire = mixed(rgb("#ffd34d"), rgb("#f0602a"), lambda p: (-0.76 - p[1]) / 0.2)
    flame = union(
        cone((0, -0.7, 0), (0, -0.97, 0), 0.13, 0.03),
        *(
            cone((x, -0.72, z), (1.1 * x, -0.88, 1.1 * z), 0.06, 0.015)
            for x, z in ((0.1, 0.04), (-0.09, 0.06), (0, -0.1))
        ),
        smooth=0.05,
    )
    return union(bell.painted(STEEL, 0.9), flame.painted(fire, 0.4))


def _window() -> Shape:
    frame = torus(0.125, 0.032).turned("x", 90).painted(GOLD, 0.9)
    glass = ellipsoid(0.125, 0.125, 0.05).painted(mixed(rgb("#1d4e79"), rgb("#8fd3f0"), lambda p: 0.5 + 4 * p[1]), 1.0)
    pane = union(frame, glass)
    small = union(
        torus(0.06, 0.02).turned("x", 90).painted(STEEL, 0.9), ellipsoid(0.06, 0.06, 0.03).painted(rgb("#2b6a94"), 1.0)
    )
    bolts = union(*(sphere(0.014).at(0, 0.125, 0.03).turned("z", 45 * k) for k in range(8))).painted(STEEL, 0.9)
    return union(union(pane, bolts).turned("x", -6).at(0, 0.2, 0.35), small.at(0.0, -0.06, 0.362))


def _hatch() -> Shape:
    door = box(0.13, 0.19, 0.05, 0.04).painted(_enamel(GOLD, 7), 0.7)
    door = door.decal(box(0.09, 0.02, 1, 0.0).at(0, 0.08, 0).painted(NAVY)).decal(
        box(0.09, 0.02, 1, 0.0).at(0, 0.02, 0).painted(NAVY)
    )
    wheel = torus(0.045, 0.013).turned("x", 90).painted(STEEL, 0.9).at(0, -0.08, -0.055)
    return union(door, wheel).at(0, 0.1, -0.33)


def _booster() -> Shape:
    tank = revolved(
        [(0, -0.3), (0.09, -0.3), (0.115, -0.26), (0.12, 0.1), (0.1, 0.24), (0.05, 0.34), (0, 0.38)], steps=2
    )
    tank = tank.painted(_enamel(STEEL, 8), 0.8)
    cap = box(1, 0.2, 1, 0.0).at(0, 0.32, 0).painted(_enamel(NAVY, 9), 0.8)
    stripe = box(1, 0.03, 1, 0.0).at(0, -0.16, 0).painted(checker(GOLD, NAVY, 0.06, (0, 2)), 0.7)
    strut = cone((0, 0, 0), (0.15, 0, 0), 0.03).painted(NAVY, 0.6)
    straps = union(strut.at(0.05, 0.05, 0), strut.at(0.05, -0.18, 0))
    return union(tank.decal(cap).decal(stripe), straps).at(-0.49, -0.12, 0.06)


def _dish() -> Shape:
    mast = cone((0.28, 0.28, 0.02), (0.48, 0.36, 0.06), 0.018).painted(STEEL, 0.9)
    bowl = sphere(0.11).cut(sphere(0.12).at(0, 0, 0.1), smooth=0.01).painted(mixed(CREAM, STEEL, noise(0.05, 3)), 0.6)
    feed = union(cone((0, 0, -0.05), (0, 0, 0.1), 0.01), sphere(0.022).at(0, 0, 0.11)).painted(RED, 0.8)
    return union(mast, union(bowl, feed, smooth=0.01).turned("x", -25).turned("y", 40).at(0.5, 0.38, 0.07), smooth=0.01)
