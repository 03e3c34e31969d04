"""A sitting fox: its tail curls round to its left (to the right in the front view), its right ear is folded."""

from __future__ import annotations

from collections.abc import Callable

from ..patterns import mixed, noise, rgb, stripes
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
    prism,
    sphere,
    torus,
    tube,
    union,
)

FUR, DEEP, WHITE, DARK = rgb("#e07b2e"), rgb("#b9531d"), rgb("#f8efe0"), rgb("#3a2520")


def build() -> Shape:
    body = union(_body(), _head().turned("z", -5).turned("y", 6), smooth=0.05)
    return union(body, _tail(), _collar(), smooth=0.012)


def _fur(seed: int) -> Color:
    return mixed(FUR, DEEP, _tufts(seed))


def _tufts(seed: int) -> Callable[[Points], Distances]:
    fine = noise([0.02, 0.09, 0.02], seed, octaves=2)
    broad = noise(0.3, seed + 3)
    return lambda p: 0.9 * fine(p) + 0.7 * broad(p) - 0.55


def _body() -> Shape:
    trunk = tube([(0, -0.62, -0.1), (0, -0.3, -0.04), (0, 0.05, 0.02), (0, 0.25, 0.05)], [0.33, 0.3, 0.2, 0.17])
    haunch = ellipsoid(0.2, 0.27, 0.29).turned("x", 15).at(0.27, -0.62, 0.0)
    hind = ellipsoid(0.11, 0.075, 0.19).at(0.32, -0.86, 0.2)
    fore = cone((0.14, -0.15, 0.16), (0.14, -0.84, 0.27), 0.115, 0.085)
    paw = ellipsoid(0.1, 0.075, 0.14).at(0.14, -0.86, 0.32)
    legs = union(haunch, hind, fore, paw, smooth=0.05).mirrored()
    body = union(trunk, legs, smooth=0.06).painted(_fur(1), 0.12)
    socks = union(
        cone((0.14, -0.72, 0.25), (0.14, -0.93, 0.36), 0.17), ellipsoid(0.15, 0.12, 0.24).at(0.32, -0.88, 0.22)
    )
    socks = socks.mirrored().painted(mixed(DARK, rgb("#5a3a30"), noise(0.04, 4)), 0.12)
    body = body.decal(socks, 0.03)
    bib = (
        ellipsoid(0.2, 0.4, 0.3)
        .at(0, -0.05, 0.3)
        .painted(mixed(WHITE, rgb("#e9d8bf"), noise([0.02, 0.08, 0.02], 5)), 0.1)
    )
    toes = (
        union(*(box(0.007, 0.05, 0.06, 0.0).at(x, -0.86, 0.44) for x in (0.11, 0.17)))
        .mirrored()
        .painted(rgb("#1d1210"))
    )
    return body.decal(bib, 0.02).decal(toes)


def _head() -> Shape:
    skull = ellipsoid(0.36, 0.3, 0.3)
    cheeks = ellipsoid(0.17, 0.13, 0.15).turned("z", -20).at(0.26, -0.12, 0.08).mirrored()
    snout = cone((0, -0.09, 0.2), (0, -0.12, 0.44), 0.17, 0.07)
    head = union(skull, cheeks, snout, smooth=0.1).painted(_fur(7), 0.12)
    mask = union(
        ellipsoid(0.21, 0.13, 0.3).turned("z", -25).at(0.25, -0.17, 0.22).mirrored(),
        ellipsoid(0.14, 0.09, 0.35).at(0, -0.2, 0.3),
    )
    head = head.decal(mask.painted(WHITE, 0.1), 0.015)
    smile = tube(
        [(-0.09, -0.17, 0.35), (-0.05, -0.19, 0.45), (0, -0.165, 0.52), (0.05, -0.19, 0.45), (0.09, -0.17, 0.35)],
        [0.009] * 5,
    )
    head = head.decal(smile.painted(DARK))
    nose = ellipsoid(0.055, 0.042, 0.045).at(0, -0.085, 0.5).painted(rgb("#1d1512"), 0.9)
    eye = ellipsoid(0.052, 0.066, 0.035).painted(rgb("#20140f"), 1.0)
    glint = sphere(0.016).painted(rgb("#ffffff"), 0.9).at(0.018, 0.024, 0.03)
    eyes = union(*(union(eye, glint).at(x, 0.06, 0.275) for x in (-0.14, 0.14)))
    ears = union(_ear(), _folded_ear(), smooth=0.02)
    return union(union(head, ears, smooth=0.05), nose, eyes).at(0, 0.48, 0.12)


def _ear() -> Shape:
    """On its left, pricked."""
    outer = prism([(-0.12, 0), (0.12, 0), (0.03, 0.33)], 0.05, 0.03).painted(_fur(11), 0.12)
    inner = prism([(-0.07, 0.03), (0.07, 0.03), (0.025, 0.24)], 0.2, 0.0).at(0, 0, 0.2).painted(WHITE, 0.1)
    tip = half_space((0, -1, 0), -0.24).painted(DARK, 0.1)
    return outer.decal(inner, 0.01).decal(tip, 0.03).turned("z", -16).at(0.2, 0.2, -0.02)


def _folded_ear() -> Shape:
    outer = prism([(-0.12, 0), (0.12, 0), (0.07, 0.2), (-0.06, 0.2)], 0.05, 0.03).painted(_fur(12), 0.12)
    flap = prism([(-0.07, 0), (0.075, 0), (-0.02, -0.17)], 0.032, 0.02).painted(DARK, 0.12)
    return union(outer, flap.turned("x", -24).at(0, 0.215, 0.05), smooth=0.03).turned("z", 18).at(-0.2, 0.2, -0.02)


def _tail() -> Shape:
    brush = tube(
        [(0.05, -0.74, -0.3), (0.4, -0.76, -0.36), (0.6, -0.58, -0.18), (0.64, -0.26, 0.0), (0.53, 0.02, 0.06)],
        [0.1, 0.16, 0.2, 0.17, 0.035],
    ).painted(_fur(15), 0.1)
    ragged = noise(0.05, 16)
    white = half_space((0, -1, 0), 0.24).displaced(lambda p: 0.1 * ragged(p) - 0.05)
    return brush.decal(white.painted(mixed(WHITE, rgb("#e6d3b8"), noise([0.02, 0.08, 0.02], 18)), 0.1), 0.02)


def _collar() -> Shape:
    band = (
        torus(0.215, 0.035)
        .painted(stripes(rgb("#2d6fb0"), rgb("#f2f2ee"), 0, 0.1, 0.25), 0.4)
        .turned("x", 12)
        .at(0, 0.16, 0.05)
    )
    tag = cylinder(0.06, 0.018, 0.008).turned("x", 80).at(0.02, 0.06, 0.29).painted(rgb("#f0bf3f"), 0.95)
    return union(band, tag, smooth=0.01)
