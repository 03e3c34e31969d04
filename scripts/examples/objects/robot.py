"""A toy robot that waves with its right arm (to the left in the front view); a battery pack on its back."""

from __future__ import annotations

from ..patterns import mixed, noise, rgb, stripes
from ..sdf import Color, Shape, box, cone, cylinder, ellipsoid, prism, sphere, torus, tube, union

TEAL, DARK, CREAM, ORANGE = rgb("#2f9aa0"), rgb("#2b3138"), rgb("#efe6d2"), rgb("#ef7d32")
STEEL = rgb("#9aa4ad")


def build() -> Shape:
    legs = _leg().mirrored()
    return union(
        _torso(),
        _head().turned("z", 5).at(0.02, 0.56, 0),
        _pack().at(0, 0.02, -0.33),
        legs,
        _waving_arm(),
        _hanging_arm(),
    )


def _enamel(color: tuple[float, float, float], seed: int = 1) -> Color:
    wear = noise(0.25, seed, octaves=3)
    return mixed(color, tuple(0.8 * c for c in color), lambda p: 1.4 * wear(p) - 0.4)


def _torso() -> Shape:
    shell = box(0.36, 0.34, 0.25, 0.09).painted(_enamel(TEAL), 0.7)
    belt = box(0.372, 0.05, 0.262, 0.03).painted(DARK, 0.5).at(0, -0.27, 0)
    panel = box(0.24, 0.17, 0.03, 0.025).painted(CREAM, 0.5).at(0.0, 0.06, 0.25)
    dial = cylinder(0.085, 0.03, 0.01).turned("x", 90).painted(rgb("#f7f3e8"), 0.8)
    dial = dial.decal(cylinder(0.085, 1, 0.0).turned("x", 90).painted(DARK)).decal(
        cylinder(0.07, 1, 0.0).turned("x", 90).painted(rgb("#fffdf2"), 0.8)
    )
    dial = dial.decal(prism([(-0.012, -0.02), (0.012, -0.02), (0.05, 0.055)], 1, 0.002).painted(rgb("#d0312d")))
    buttons = [
        sphere(0.03).painted(color, 0.8).at(0.08 + 0.09 * (i % 2), 0.11 - 0.1 * (i // 2), 0.28)
        for i, color in enumerate((rgb("#e23c39"), rgb("#f4c430"), rgb("#3aa655"), rgb("#3b6fd4")))
    ]
    neck = cylinder(0.12, 0.1).painted(stripes(DARK, STEEL, 1, 0.04), 0.6).at(0, 0.36, 0)
    bolts = [sphere(0.022).painted(STEEL, 0.9).at(x, y, 0.235) for x in (-0.3, 0.3) for y in (0.26, -0.18)]
    stripe = box(0.37, 0.022, 0.3, 0.0).at(0, -0.17, 0).painted(ORANGE, 0.7)
    return union(shell.decal(stripe), belt, panel, dial.at(-0.11, 0.06, 0.275), *buttons, neck, *bolts, smooth=0.012)


def _head() -> Shape:
    shell = box(0.34, 0.24, 0.25, 0.1).painted(_enamel(TEAL, 4), 0.7)
    screen = box(0.25, 0.15, 0.05, 0.045).painted(rgb("#16222e"), 0.95).at(0, 0, 0.225)
    eye = ellipsoid(0.055, 0.07, 0.03).painted(rgb("#63f0e4"), 0.9)
    wink = tube([(-0.055, -0.015, 0), (0, 0.03, 0.005), (0.055, -0.015, 0)], [0.015] * 3).painted(rgb("#63f0e4"), 0.9)
    smile = tube([(-0.09, 0.02, 0), (0, -0.025, 0.004), (0.09, 0.02, 0)], [0.013] * 3).painted(rgb("#63f0e4"), 0.9)
    face = union(screen, eye.at(-0.11, 0.03, 0.27), wink.at(0.11, 0.03, 0.272), smile.at(0, -0.075, 0.272))
    ear = cylinder(0.1, 0.05).turned("z", 90).painted(ORANGE, 0.7).at(0.35, 0, 0)
    cap = cylinder(0.055, 0.03).turned("z", 90).painted(CREAM, 0.7).at(0.4, 0, 0)
    ears = union(ear, cap).mirrored()
    rod = cone((0.18, 0.2, 0), (0.22, 0.38, 0), 0.024, 0.016).painted(STEEL, 0.9)
    ball = sphere(0.06).painted(rgb("#e23c39"), 0.9).at(0.225, 0.42, 0)
    foot = cylinder(0.06, 0.03).painted(DARK, 0.5).at(0.18, 0.24, 0)
    return union(shell, face, ears, rod, ball, foot, smooth=0.012)


def _pack() -> Shape:
    case = box(0.22, 0.24, 0.12, 0.06).painted(_enamel(ORANGE, 6), 0.6)
    case = case.decal(box(0.15, 0.16, 1, 0.0).painted(stripes(DARK, rgb("#f4c430"), 1, 0.08), 0.5))
    valve = cylinder(0.05, 0.05).painted(STEEL, 0.9).at(0.1, 0.26, 0)
    return union(case, valve, smooth=0.02)


def _leg() -> Shape:
    """The left one, at x > 0."""
    hip = sphere(0.11).painted(DARK, 0.5).at(0.17, -0.36, 0)
    shin = cylinder(0.085, 0.16).painted(stripes(STEEL, DARK, 1, 0.055, 0.3), 0.7).at(0.17, -0.52, 0)
    boot = box(0.145, 0.11, 0.22, 0.07).painted(_enamel(TEAL, 8), 0.7).at(0.18, -0.74, 0.06)
    toe = box(0.15, 0.05, 0.1, 0.04).painted(ORANGE, 0.7).at(0.18, -0.79, 0.2)
    return union(hip, shin, boot, toe, smooth=0.015)


def _arm(joints: list[tuple[float, float, float]]) -> Shape:
    """Shoulder, elbow, wrist."""
    shoulder = sphere(0.115).painted(_enamel(ORANGE, 11), 0.7).at(*joints[0])
    elbow = sphere(0.075).painted(DARK, 0.5).at(*joints[1])
    upper = cone(joints[0], joints[1], 0.065).painted(STEEL, 0.8)
    lower = cone(joints[1], joints[2], 0.075, 0.095).painted(_enamel(TEAL, 13), 0.7)
    cuff = sphere(0.098).painted(CREAM, 0.6).at(*joints[2])
    return union(shoulder, upper, elbow, lower, cuff, smooth=0.01)


def _waving_arm() -> Shape:
    arm = _arm([(-0.41, 0.2, 0), (-0.58, 0.02, 0.04), (-0.74, 0.36, 0.1)])
    fingers = [cone((0, 0, 0), (x, 0.15, z), 0.035, 0.03) for x, z in ((-0.1, 0.0), (0.0, 0.03), (0.09, 0.0))]
    thumb = cone((0, 0, 0), (0.13, 0.05, 0.04), 0.032)
    palm = union(sphere(0.085), *fingers, thumb, smooth=0.03).painted(CREAM, 0.6)
    return union(arm, palm.turned("z", 12).at(-0.77, 0.47, 0.12))


def _hanging_arm() -> Shape:
    arm = _arm([(0.41, 0.2, 0), (0.55, -0.06, -0.02), (0.6, -0.3, 0.1)])
    claw = torus(0.085, 0.035).turned("x", 90).cut(box(0.05, 0.2, 0.2, 0.0).at(0, -0.12, 0), smooth=0.02)
    return union(arm, claw.painted(CREAM, 0.6).turned("y", 60).at(0.61, -0.45, 0.13))
