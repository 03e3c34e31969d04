"""A mushroom that somebody lives in: door to the front, chimney and a small neighbour to one side."""

from __future__ import annotations

import itertools
import math

import torch

from ..patterns import mixed, noise, rgb, speckled, spokes, wood
from ..sdf import (
    Color,
    Distances,
    Points,
    Shape,
    box,
    cone,
    cylinder,
    ellipsoid,
    half_space,
    intersection,
    revolved,
    sphere,
    torus,
    tube,
    union,
)

CREAM, RED, MOSS = rgb("#f3e4c6"), rgb("#cf2f27"), rgb("#5f8f3a")


def build() -> Shape:
    stem = intersection(_stem(), half_space((0, -1, 0), 0.85), smooth=0.02)
    house = union(stem, _cap(), smooth=0.05)
    neighbour = _neighbour().scaled(0.36).turned("z", -14).at(0.48, -0.72, 0.26)
    return union(_mound(), house, neighbour, _snail().at(-0.5, -0.69, 0.34), smooth=0.03)


def _mound() -> Shape:
    """Grass on a clod of earth that narrows downwards."""
    grass = mixed(MOSS, rgb("#86b04a"), noise(0.06, seed=5, octaves=3))
    edge = noise(0.1, seed=6, octaves=2)
    earth = mixed(grass, rgb("#7a5233"), lambda p: (-0.06 + 0.12 * (edge(p) - 0.5) - p[1]) / 0.01)
    return ellipsoid(0.76, 0.2, 0.6).displaced(_bumps).painted(earth, 0.05).at(0, -0.8, 0)


def _bumps(p: Points) -> Distances:
    return 0.012 * torch.sin(11 * p[0] + 1) * torch.sin(9 * p[2] + 0.4)


def _stem() -> Shape:
    body = tube([(0, -0.85, 0), (-0.02, -0.5, 0), (0.03, -0.15, 0), (0, 0.15, 0)], [0.38, 0.35, 0.29, 0.25])
    body = body.painted(speckled(CREAM, 0.12, 0.16, seed=2), 0.15)
    skirt = revolved([(0, 0.13), (0.3, 0.06), (0.4, -0.03), (0.37, -0.05), (0.26, 0.0), (0, 0.02)], steps=2)
    skirt = skirt.painted(spokes(rgb("#e6cfa2"), rgb("#fff2d8"), 40), 0.15)
    body = union(body, skirt.at(0.02, -0.02, 0), smooth=0.04)
    return union(
        body,
        _door().turned("x", -8).at(-0.03, -0.58, 0.345),
        _window().turned("y", 62).at(0.27, -0.33, 0.16),
        smooth=0.012,
    )


def _door() -> Shape:
    def arch(half: float, depth: float) -> Shape:
        return union(box(half, 0.14, depth), cylinder(half, depth).turned("x", 90).at(0, 0.14, 0))

    planks = wood(rgb("#9c6233"), rgb("#6b3d1c"), axis=1, ring=0.03)
    leaf = arch(0.12, 0.07).painted(planks, 0.25)
    for x in (-0.04, 0.04):
        leaf = leaf.decal(box(0.004, 0.4, 0.4, 0.0).at(x, 0, 0).painted(rgb("#4a2812")))
    frame = arch(0.155, 0.06).painted(wood(rgb("#d8a766"), rgb("#b27b3f"), axis=1), 0.25)
    knob = sphere(0.018).painted(rgb("#f2c14e"), 0.9).at(0.075, 0.02, 0.08)
    step = box(0.2, 0.035, 0.1).painted(speckled(rgb("#a9a39a"), 0.04, 0.2), 0.1).at(0, -0.155, 0.1)
    return union(frame, leaf, knob, step)


def _window() -> Shape:
    """Round, with a cross in it; looks along +z."""
    ring = torus(0.085, 0.022).turned("x", 90).painted(rgb("#b27b3f"), 0.3)
    pane = cylinder(0.085, 0.03, 0.01).turned("x", 90).painted(rgb("#ffd86b"), 0.8)
    bars = union(box(0.085, 0.011, 0.04, 0.005), box(0.011, 0.085, 0.04, 0.005)).painted(rgb("#b27b3f"), 0.3)
    return union(ring, pane, bars)


def _cap() -> Shape:
    dome = revolved(
        [
            (0, 0.94),
            (0.28, 0.87),
            (0.58, 0.64),
            (0.79, 0.31),
            (0.86, 0.08),
            (0.8, 0.0),
            (0.5, 0.09),
            (0.25, 0.16),
            (0, 0.17),
        ],
        steps=2,
    )
    skin = mixed(RED, rgb("#e4572e"), noise(0.35, seed=9, octaves=2))
    dome = dome.painted(skin, 0.75)
    gills = spokes(rgb("#f6dfb5"), rgb("#d9b37c"), 72)
    under = revolved(
        [(0, 0.05), (0.78, -0.06), (0.8, 0.03), (0.66, 0.062), (0.5, 0.115), (0.25, 0.19), (0, 0.2)], steps=2
    )
    dome = dome.decal(under.painted(gills, 0.1))
    spots = union(*_spots()).painted(speckled(rgb("#fff6e3"), 0.05, 0.06), 0.3)
    chimney = union(
        cylinder(0.085, 0.18).painted(_bricks(), 0.1), cylinder(0.11, 0.035).painted(rgb("#7c4a3a"), 0.1).at(0, 0.18, 0)
    ).at(0.47, 0.76, -0.12)
    return union(union(dome, spots, smooth=0.02), chimney, smooth=0.01).turned("z", 3)


def _spots() -> list[Shape]:
    """(azimuth, height, radius) of discs that lie on the dome."""
    places = [
        (5, 0.62, 0.15), (48, 0.42, 0.1), (-42, 0.36, 0.13), (20, 0.25, 0.085), (-14, 0.28, 0.07), (92, 0.56, 0.13),
        (75, 0.2, 0.075), (140, 0.36, 0.14), (185, 0.6, 0.1), (200, 0.25, 0.09), (238, 0.42, 0.15), (278, 0.58, 0.1),
        (285, 0.24, 0.09), (325, 0.72, 0.09), (120, 0.83, 0.12), (-75, 0.3, 0.06), (62, 0.72, 0.06), (165, 0.18, 0.06),
    ]  # fmt: skip
    spots = []
    for azimuth, height, radius in places:
        reach = _dome_radius(height)
        slope = math.degrees(math.atan2(_dome_radius(height - 0.02) - _dome_radius(height + 0.02), 0.04))
        disc = ellipsoid(radius, radius, 0.035)
        spots.append(disc.turned("x", -slope).at(0, height, reach).turned("y", azimuth))
    return spots


def _dome_radius(height: float) -> float:
    profile = [(0.87, 0.06), (0.86, 0.08), (0.79, 0.31), (0.58, 0.64), (0.28, 0.87), (0.0, 0.94), (0.0, 1.0)]
    for (r0, y0), (r1, y1) in itertools.pairwise(profile):
        if height <= y1:
            return r0 + (r1 - r0) * (height - y0) / (y1 - y0)
    return 0.0


def _bricks() -> Color:
    rows = noise([0.07, 0.05, 0.07], seed=4)
    return mixed(rgb("#b5563f"), rgb("#8b3b2c"), rows)


def _neighbour() -> Shape:
    stem = cone((0, -0.15, 0), (0, 0.2, 0), 0.26, 0.22).painted(CREAM, 0.15)
    cap = intersection(ellipsoid(0.72, 0.62, 0.72), box(2, 0.7, 2, 0.1).at(0, 0.7, 0), smooth=0.1)
    cap = cap.painted(mixed(rgb("#e9a33b"), rgb("#d9772b"), lambda p: 1 - p[1] * 1.6), 0.7).at(0, 0.15, 0)
    freckles = [
        ellipsoid(r, r, 0.06).at(0, 0, 0.66).turned("x", -el).turned("y", az).at(0, 0.15, 0)
        for az, el, r in (
            (0, 30, 0.12),
            (55, 45, 0.1),
            (-50, 35, 0.13),
            (110, 30, 0.12),
            (180, 40, 0.14),
            (240, 30, 0.1),
        )
    ]
    return union(stem, union(cap, union(*freckles).painted(CREAM, 0.3), smooth=0.03), smooth=0.06)


def _snail() -> Shape:
    """It looks to +x."""
    body = tube([(-0.14, -0.045, 0), (0, -0.03, 0), (0.1, -0.02, 0), (0.16, 0.05, 0.01)], [0.025, 0.045, 0.045, 0.035])
    horns = union(
        cone((0.17, 0.06, 0.02), (0.2, 0.13, 0.045), 0.012), cone((0.17, 0.06, -0.02), (0.2, 0.13, -0.045), 0.012)
    )
    body = union(body, horns, smooth=0.02).painted(rgb("#c9a26b"), 0.6)
    shell = union(sphere(0.1), torus(0.07, 0.05).turned("x", 90), smooth=0.03)
    shell = shell.painted(_spiral(), 0.8)
    return union(body, shell.at(-0.02, 0.06, 0), smooth=0.02)


def _spiral() -> Color:
    def share(p: Points) -> Distances:
        turn = torch.atan2(p[1], p[0]) / (2 * math.pi)
        radius = torch.sqrt(p[0] ** 2 + p[1] ** 2)
        return ((radius / 0.045 - turn).remainder(1) < 0.45).float()

    return mixed(rgb("#8c5a7a"), rgb("#d9a3b8"), share)
