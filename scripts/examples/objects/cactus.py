"""A potted cactus with a flower: a long arm to the left, a short one to the right, a face on the pot."""

from __future__ import annotations

import torch

from ..patterns import mixed, noise, rgb, speckled
from ..sdf import Distances, Points, Shape, box, cone, cylinder, ellipsoid, revolved, sphere, torus, tube, union

GREEN, DARK, CLAY, CREAM = rgb("#4f9a5a"), rgb("#2c6a41"), rgb("#c8693f"), rgb("#f6ead2")


def build() -> Shape:
    trunk = _column(1.0, 0.25).at(0, -0.42, 0)
    left = union(_column(0.42, 0.135).at(-0.5, 0.12, 0.03), _elbow(-0.5, 0.1, 0.135), smooth=0.03)
    right = union(_column(0.16, 0.115).at(0.46, 0.36, -0.03), _elbow(0.46, 0.32, 0.115), smooth=0.03)
    plant = union(trunk, left, right, smooth=0.05)
    return union(plant, _pot(), _soil(), _flower().at(0.03, 0.79, 0.04), _bud().at(-0.5, 0.66, 0.03), smooth=0.015)


def _column(height: float, radius: float) -> Shape:
    """Ribbed, upright from the origin, with a round top."""

    def ribs(p: Points) -> Distances:
        return 0.09 * radius * torch.cos(11 * torch.atan2(p[0], p[2]))

    skin = mixed(DARK, GREEN, lambda p: 0.55 + 0.75 * torch.cos(11 * torch.atan2(p[0], p[2])))
    spine = mixed(skin, CREAM, _spines)
    return cone((0, 0, 0), (0, height, 0), radius, 0.88 * radius).displaced(ribs).painted(spine, 0.3)


def _spines(p: Points) -> Distances:
    """Small bright stars in rows along the ribs."""
    turn = torch.atan2(p[0], p[2]) * 11 / (2 * torch.pi)
    off = (turn - torch.round(turn)) * 2 * torch.pi / 11 * torch.hypot(p[0], p[2])
    row = p[1] / 0.085 + 0.5 * torch.round(turn).remainder(2)
    up = (row - torch.round(row)) * 0.085
    return (torch.minimum((off - up).abs(), (off + up).abs()) < 0.0045).float() * (off**2 + up**2 < 0.02**2)


def _elbow(x: float, y: float, radius: float) -> Shape:
    bend = tube(
        [(0, y - 0.16, 0), (0.55 * x, y - 0.15, 0), (0.92 * x, y - 0.1, 0.02), (x, y + 0.04, 0.02)], [radius * 0.85] * 4
    )
    return bend.painted(mixed(GREEN, DARK, noise([0.3, 0.03, 0.03], 4)), 0.3)


def _pot() -> Shape:
    pot = revolved(
        [(0, -0.95), (0.33, -0.95), (0.37, -0.92), (0.46, -0.58), (0.48, -0.52), (0.54, -0.51), (0.55, -0.4),
         (0.53, -0.37), (0.47, -0.38), (0.45, -0.44), (0, -0.46)],
        steps=2,
    ).painted(speckled(CLAY, 0.08, 0.2, 2), 0.25)  # fmt: skip

    def zigzag(p: Points) -> Distances:
        turn = torch.atan2(p[0], p[2]) * 18 / (2 * torch.pi)
        wave = (turn - torch.round(turn)).abs() * 0.11
        return ((p[1] - wave + 0.487 - 0.015).abs() < 0.012).float()

    pot = pot.decal(torus(0.54, 0.08).at(0, -0.445, 0).painted(mixed(rgb("#b4552f"), CREAM, zigzag), 0.3))
    eye = ellipsoid(0.035, 0.05, 0.2).at(0.13, -0.68, 0.42).mirrored().painted(rgb("#2a1a14"), 0.8)
    glint = union(sphere(0.014).at(-0.12, -0.663, 0.428), sphere(0.014).at(0.14, -0.663, 0.428)).painted(CREAM, 0.8)
    mouth = tube([(-0.06, -0.72, 0.42), (0, -0.76, 0.42), (0.06, -0.72, 0.42)], [0.016] * 3, steps=3).painted(
        rgb("#2a1a14")
    )
    blush = ellipsoid(0.06, 0.035, 0.2).at(0.24, -0.74, 0.36).mirrored().painted(rgb("#e88f76"), 0.25)
    label = box(0.16, 0.1, 0.3, 0.0).at(0, -0.7, -0.4).painted(mixed(CREAM, rgb("#8a5a3c"), _lettering), 0.2)
    return pot.decal(blush, 0.03).decal(eye).decal(glint).decal(mouth).decal(label)


def _lettering(p: Points) -> Distances:
    """Lines of a label, as of writing."""
    row = ((p[1] + 0.7) / 0.05).remainder(1)
    word = torch.sin(p[0] * 90 + 13 * ((p[1] + 0.7) / 0.05).floor())
    return ((row > 0.35) & (row < 0.65) & (word > -0.5) & (p[0].abs() < 0.12)).float()


def _soil() -> Shape:
    grain = mixed(rgb("#4a3326"), rgb("#7a5a42"), noise(0.025, 8, octaves=2))
    soil = cylinder(0.46, 0.04, 0.03).at(0, -0.42, 0).painted(grain, 0.05)
    stones = [(0.36, 0.1, 0.06), (0.3, 0.26, 0.05), (-0.34, 0.18, 0.07), (-0.2, -0.34, 0.05), (0.1, 0.38, 0.04)]
    pebbles = union(*(ellipsoid(r, 0.7 * r, 0.85 * r).at(x, -0.38, z) for x, z, r in stones))
    return union(soil, pebbles.painted(speckled(rgb("#cfc6b8"), 0.04, 0.3, 9), 0.3), smooth=0.01)


def _flower() -> Shape:
    petal = ellipsoid(0.05, 0.115, 0.028).at(0, 0.1, 0)
    blush = mixed(rgb("#f7b8d0"), rgb("#d9367f"), lambda p: p[1] * 8)
    outer = union(*(petal.turned("x", 62).turned("y", 45 * k) for k in range(8)))
    inner = union(*(petal.scaled(0.75).turned("x", 28).turned("y", 45 * k + 22) for k in range(8)))
    heart = sphere(0.045).at(0, 0.04, 0).painted(rgb("#f4c542"), 0.3)
    return union(outer.painted(blush, 0.2), inner.painted(rgb("#ee6aa2"), 0.2), heart, smooth=0.006)


def _bud() -> Shape:
    return union(cone((0, -0.02, 0), (-0.02, 0.08, 0), 0.05, 0.02)).painted(rgb("#d9367f"), 0.3)
