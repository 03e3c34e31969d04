"""Colours and patterns: functions of points to use as a shape's paint."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .sdf import Color, Distances, Points, Shape, Vec

Pattern = Callable[[Points], Float[Tensor, "3 N"]]


def rgb(code: str) -> tuple[float, float, float]:
    """'#e8443a' to sRGB in [0, 1]."""
    value = int(code.removeprefix("#"), 16)
    return (value >> 16) / 255, (value >> 8 & 255) / 255, (value & 255) / 255


def mixed(a: Color, b: Color, share: Callable[[Points], Distances]) -> Pattern:
    """`a` where share is 0, `b` where it is 1."""
    return lambda p: torch.lerp(_color(a, p), _color(b, p), share(p).clamp(0, 1))


def noise(scale: float | Vec, seed: int = 0, octaves: int = 1) -> Callable[[Points], Distances]:
    """Smooth value noise in [0, 1]; `scale` is the size of a blob (per axis if three numbers)."""
    sizes = (scale,) * 3 if isinstance(scale, int | float) else tuple(scale)

    def field(p: Points) -> Distances:
        total, weight = torch.zeros_like(p[0]), 0.0
        for octave in range(octaves):
            q = p / p.new_tensor(sizes)[:, None] * 2**octave
            total = total + _value_noise(q, seed + 101 * octave) * 0.5**octave
            weight += 0.5**octave
        return total / weight

    return field


def _value_noise(p: Points, seed: int) -> Distances:
    low = p.floor()
    t = p - low
    t = t * t * (3 - 2 * t)
    cell = low.long()
    total = torch.zeros_like(p[0])
    for corner in range(8):
        offset = [(corner >> axis) & 1 for axis in range(3)]
        key = torch.full_like(cell[0], seed * 668265263)
        for axis, prime in enumerate((374761393, 1103515245, 2147483629)):
            key = (key ^ ((cell[axis] + offset[axis]) * prime)) * 1274126177 & 0x7FFFFFFF
            key = key ^ (key >> 13)
        weight = torch.ones_like(total)
        for axis in range(3):
            weight = weight * (t[axis] if offset[axis] else 1 - t[axis])
        total = total + weight * ((key & 0xFFFF).float() / 0xFFFF)
    return total


def speckled(color: Vec, scale: float, strength: float = 0.08, seed: int = 0) -> Pattern:
    """A colour with soft lighter and darker blotches."""
    field = noise(scale, seed, octaves=3)
    return lambda p: (_color(color, p) * (1 + strength * 2 * (field(p) - 0.5))).clamp(0, 1)


def stripes(a: Color, b: Color, axis: int, period: float, share: float = 0.5, phase: float = 0.0) -> Pattern:
    """Bands across an axis: `b` fills `share` of each period."""
    return mixed(a, b, lambda p: (((p[axis] + phase) / period).remainder(1) < share).float())


def checker(a: Color, b: Color, period: float, axes: tuple[int, int] = (0, 1)) -> Pattern:
    return mixed(a, b, lambda p: ((p[axes[0]] / period).floor() + (p[axes[1]] / period).floor()).remainder(2))


def spokes(a: Color, b: Color, count: int, share: float = 0.5) -> Pattern:
    """Sectors about the y axis, counted from +z."""
    turn = 2 * math.pi
    return mixed(a, b, lambda p: ((torch.atan2(p[0], p[2]) / turn * count + share / 2).remainder(1) < share).float())


def wood(light: Color, dark: Color, axis: int = 1, ring: float = 0.045, seed: int = 0) -> Pattern:
    """Grain that runs along an axis: rings about an off-centre pith, bent by noise."""
    bend = noise([2.0 if a == axis else 0.35 for a in range(3)], seed, octaves=2)
    fibre = noise([0.5 if a == axis else 0.012 for a in range(3)], seed + 7)
    u, v = [a for a in range(3) if a != axis]

    def share(p: Points) -> Distances:
        radius = torch.sqrt((p[u] - 0.31) ** 2 + (p[v] + 0.47) ** 2) + 0.16 * bend(p)
        saw = (radius / ring).remainder(1)
        return 0.75 * saw**2 * (1 - saw**12) + 0.35 * (fibre(p) - 0.35)

    return mixed(light, dark, share)


def plaid(ground: Color, bands: list[tuple[Vec, int, float, float, float]]) -> Pattern:
    """Woven bands over a ground: (colour, axis, period, width, phase), each half see-through."""

    def pattern(p: Points) -> Float[Tensor, "3 N"]:
        color = _color(ground, p)
        for tint, axis, period, width, phase in bands:
            over = 0.55 * ((((p[axis] + phase) / period).remainder(1) - 0.5).abs() < width / period / 2).float()
            color = torch.lerp(color, _color(tint, p), over)
        return color

    return pattern


def within(region: Shape, inside: Color, outside: Color) -> Pattern:
    return mixed(outside, inside, lambda p: (region.distance(p) < 0).float())


def _color(color: Color, p: Points) -> Float[Tensor, "3 N"]:
    return color(p) if callable(color) else p.new_tensor(color)[:, None].expand(3, p.shape[1])
