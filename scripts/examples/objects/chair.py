"""A kitchen chair with a cushion; one armrest, on its left, and a blanket over the right of its back."""

from __future__ import annotations

import torch

from ..patterns import mixed, plaid, rgb, stripes, wood
from ..sdf import Color, Distances, Points, Shape, box, cone, cylinder, prism, sphere, tube, union

LIGHT, DARK = rgb("#d49a5b"), rgb("#9a6232")


def build() -> Shape:
    frame = union(_legs(), _seat(), _back(), _arm(), smooth=0.02)
    return union(frame, _cushion(), _blanket(), smooth=0.01)


def _grain(axis: int, seed: int) -> Color:
    return wood(LIGHT, DARK, axis, 0.05, seed)


def _legs() -> Shape:
    front = cone((0.38, -0.15, 0.36), (0.41, -0.92, 0.385), 0.052, 0.034)
    ring = cylinder(0.058, 0.025, 0.015).at(0.394, -0.5, 0.372)
    back = tube(
        [(0.4, -0.92, -0.41), (0.38, -0.4, -0.38), (0.37, 0.2, -0.38), (0.38, 0.9, -0.5)], [0.036, 0.05, 0.05, 0.036]
    )
    knob = sphere(0.055).at(0.38, 0.92, -0.505)
    upright = union(front, ring, back, knob, smooth=0.02).mirrored().painted(_grain(1, 1), 0.45)
    side = cone((0.393, -0.52, 0.37), (0.388, -0.52, -0.385), 0.026).mirrored()
    rungs = union(
        side, cone((-0.39, -0.62, -0.39), (0.39, -0.62, -0.39), 0.026), cone((-0.4, -0.56, 0), (0.4, -0.56, 0), 0.026)
    )
    return union(upright, rungs.painted(_grain(0, 2), 0.45), smooth=0.02)


def _seat() -> Shape:
    board = prism([(-0.45, 0.44), (0.45, 0.44), (0.4, -0.42), (-0.4, -0.42)], 0.05, 0.03).turned("x", -90)
    apron = box(0.36, 0.045, 0.34, 0.02).at(0, -0.19, -0.01)
    return union(board.mirrored().at(0, -0.11, 0), apron, smooth=0.02).painted(_grain(2, 3), 0.5)


def _back() -> Shape:
    slats = [
        tube([(-0.37, y, z), (0, y + 0.03, z - 0.07), (0.37, y, z)], [0.03, 0.03, 0.03], steps=3)
        for y, z in ((0.16, -0.38),)
    ]
    for k, (y, z) in enumerate(((0.42, -0.4), (0.74, -0.46))):
        tall = (0.085, 0.12)[k]
        board = box(0.39, tall, 0.028, 0.022)
        slats.append(board.turned("x", -10).at(0, y, z))
    heart = union(
        cylinder(0.03, 1, 0.0).turned("x", 90).at(0.022, 0.75, 0),
        cylinder(0.03, 1, 0.0).turned("x", 90).at(-0.022, 0.75, 0),
        prism([(-0.048, 0.74), (0.048, 0.74), (0, 0.69)], 1, 0.002),
    )
    back = union(*slats).painted(_grain(0, 4), 0.45)
    return back.decal(heart.painted(rgb("#b23a32"), 0.4))


def _arm() -> Shape:
    rest = tube(
        [(0.38, 0.24, -0.38), (0.46, 0.27, -0.1), (0.47, 0.25, 0.22), (0.45, 0.22, 0.38)], [0.04, 0.045, 0.05, 0.055]
    )
    post = cone((0.46, 0.22, 0.28), (0.42, -0.12, 0.3), 0.032, 0.04)
    return union(rest, post, smooth=0.03).painted(_grain(2, 5), 0.45)


def _cushion() -> Shape:
    red, cream, navy = rgb("#b8322f"), rgb("#f1e3c8"), rgb("#27395f")
    cloth = plaid(
        red,
        [
            (cream, 0, 0.2, 0.035, 0.02),
            (cream, 2, 0.2, 0.035, 0.02),
            (navy, 0, 0.2, 0.06, 0.11),
            (navy, 2, 0.2, 0.06, 0.11),
        ],
    )
    pad = box(0.37, 0.085, 0.35, 0.08).displaced(_puffed).at(0, 0.01, 0.04).painted(cloth, 0.05)
    seam = box(0.42, 0.035, 0.4, 0.0).at(0, -0.01, 0.04)
    button = sphere(0.03).painted(cream, 0.3)
    buttons = union(*(button.at(x, 0.1, z) for x in (-0.15, 0.15) for z in (-0.1, 0.18)))
    return union(pad.decal(seam.painted(navy, 0.05)), buttons, smooth=0.02)


def _puffed(p: Points) -> Distances:
    return 0.05 * (1 - (p[0] / 0.37) ** 2).clamp_min(0) * (1 - (p[2] / 0.35) ** 2).clamp_min(0)


def _blanket() -> Shape:
    """Folded over the top rail."""
    knit = stripes(rgb("#3d8f8a"), rgb("#e9dfc3"), 1, 0.16, 0.35)
    weave = mixed(knit, rgb("#1f5a5a"), lambda p: 0.25 * (torch.sin(150 * p[0]) * torch.sin(150 * p[1]) > 0.3).float())
    ripple = box(0.16, 0.27, 0.075, 0.06).displaced(lambda p: 0.012 * torch.sin(26 * p[0] + 1))
    fold = ripple.turned("x", -10).at(-0.19, 0.66, -0.45)
    fringe = union(
        *(cone((x, 0.42, -0.335), (x + 0.01, 0.34, -0.315), 0.016, 0.01) for x in [-0.29 + 0.04 * k for k in range(6)])
    )
    return union(fold, fringe, smooth=0.02).painted(weave, 0.05)
