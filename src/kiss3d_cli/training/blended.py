"""Made-up solids sampled on a grid: smooth animals and figures, blobs, and chiselled things."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.training.paint import near_color, patched, random_color

GRID = 44
"""Points along each side of the grid on which blended solids are sampled."""


class _Blend:
    """Ellipsoids and rods with colours, joined smoothly; mirrored parts come in pairs."""

    def __init__(self, smooth: float) -> None:
        self.smooth = smooth
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def ball(self, at: np.ndarray, radii: np.ndarray | float, color: np.ndarray, *, mirror: bool = False) -> None:
        at = np.asarray(at, float)
        self.parts.append((at, at, np.broadcast_to(radii, 3).astype(float), color))
        if mirror:
            self.ball(at * [-1, 1, 1], radii, color)

    def rod(self, a: np.ndarray, b: np.ndarray, radius: float, color: np.ndarray, *, mirror: bool = False) -> None:
        a, b = np.asarray(a, float), np.asarray(b, float)
        self.parts.append((a, b, np.full(3, radius), color))
        if mirror:
            self.rod(a * [-1, 1, 1], b * [-1, 1, 1], radius, color)

    def distances(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N P"]:
        """Lower bounds of the distance to every part."""
        found = []
        for a, b, radii, _ in self.parts:
            start, along, scale = (torch.tensor(value).float() for value in (a, b - a, radii))
            away = points - start
            length = (along**2).sum()
            if length > 0:
                away = away - ((away @ along) / length).clamp(0, 1)[:, None] * along
            found.append(((away / scale).norm(dim=-1) - 1) * scale.min())
        return torch.stack(found, -1)

    def mesh(self, grid: int = GRID) -> Mesh:
        ends = np.concatenate([np.stack([np.minimum(a, b) - r, np.maximum(a, b) + r]) for a, b, r, _ in self.parts])
        low, high = ends.min(0), ends.max(0)
        side = (high - low).max() * 1.06 / 2
        middle = (low + high) / 2
        line = torch.linspace(-side, side, grid)
        axes = [line + float(value) for value in middle]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        field = -self.smooth * torch.logsumexp(-self.distances(points) / self.smooth, -1)
        low_x, low_y, low_z, high_x, high_y, high_z = (float(axis[i]) for i in (0, -1) for axis in axes)
        mesh = isosurface(field.reshape(grid, grid, grid), (low_x, low_y, low_z), (high_x, high_y, high_z))
        share = torch.softmax(-self.distances(mesh.vertices) / (0.25 * self.smooth), -1)
        colors = share @ torch.tensor(np.stack([color for *_, color in self.parts])).float()
        return mesh.with_colors(colors.clamp(0, 1))


def _face(blend: _Blend, rng: np.random.Generator, head: np.ndarray, r: np.ndarray, coat: np.ndarray) -> None:
    """Eyes, ears, snout or nose on a head."""
    dark = np.full(3, rng.uniform(0, 0.2))
    eye = head + r * [rng.uniform(0.25, 0.6), rng.uniform(0, 0.4), 0.85]
    blend.ball(eye, r.mean() * rng.uniform(0.06, 0.2), dark, mirror=True)
    if rng.random() < 0.7:
        snout = head + r * [0, rng.uniform(-0.5, 0), rng.uniform(0.7, 1.2)]
        size = r * rng.uniform(0.25, 0.6, 3)
        blend.ball(snout, size, near_color(coat, rng))
        if rng.random() < 0.6:
            blend.ball(snout + size * [0, 0.3, 0.9], size.min() * 0.35, dark)
    if rng.random() < 0.75:
        ear = head + r * [rng.uniform(0.4, 0.9), rng.uniform(0.6, 1), rng.uniform(-0.3, 0.2)]
        long = rng.choice([0.3, 0.5, 1.2])
        tip = ear + r.mean() * long * np.array([rng.uniform(0, 0.8), rng.uniform(0.2, 1), rng.uniform(-0.3, 0.2)])
        blend.rod(ear, tip, r.mean() * rng.uniform(0.12, 0.3), near_color(coat, rng), mirror=True)


def animal(rng: np.random.Generator) -> Mesh:
    """On four legs, along z."""
    blend = _Blend(rng.uniform(0.02, 0.07))
    coat = random_color(rng)
    length, width, height = rng.uniform(0.35, 0.8), rng.uniform(0.18, 0.35), rng.uniform(0.2, 0.38)
    blend.ball(np.zeros(3), np.array([width, height, length]), coat)
    if rng.random() < 0.5:
        blend.ball(
            np.array([0, rng.uniform(-0.1, 0.1), rng.choice([-1, 1]) * length * 0.6]), height, near_color(coat, rng)
        )
    legs = rng.uniform(0.2, 0.8)
    thick = rng.uniform(0.06, 0.15)
    for z in (0.65, -0.65):
        foot = np.array([width * rng.uniform(0.5, 1), -height - legs, z * length + rng.normal(0, 0.07)])
        blend.rod(np.array([width * 0.6, -0.3 * height, z * length]), foot, thick, near_color(coat, rng), mirror=True)
        blend.ball(
            foot + np.array([0, 0, 0.4 * thick]), thick * rng.uniform(0.9, 1.4), near_color(coat, rng), mirror=True
        )
    head = np.array([0, height + rng.uniform(-0.1, 0.6), length * rng.uniform(0.9, 1.4)])
    size = rng.uniform(0.17, 0.34) * np.exp(rng.normal(0, 0.12, 3))
    blend.rod(np.array([0, 0.3 * height, 0.7 * length]), head, rng.uniform(0.1, 0.22), coat)
    blend.ball(head, size, near_color(coat, rng))
    _face(blend, rng, head, size, coat)
    at = np.array([0, 0.4 * height, -length])
    for _ in range(rng.integers(0, 4)):
        to = at + np.array([0, rng.uniform(-0.2, 0.35), -rng.uniform(0.05, 0.25)])
        blend.rod(at, to, rng.uniform(0.04, 0.1), coat)
        at = to
    return blend.mesh()


def figure(rng: np.random.Generator) -> Mesh:
    """Sitting or standing upright, a head on a body: dolls, plush animals, birds, people."""
    blend = _Blend(rng.uniform(0.02, 0.08))
    coat = random_color(rng)
    body = np.array([rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.45)])
    blend.ball(np.zeros(3), body, coat)
    if rng.random() < 0.4:
        blend.ball(np.array([0, -0.1, body[2] * 0.4]), body * [0.75, 0.75, 0.7], near_color(random_color(rng), rng))
    size = rng.uniform(0.22, 0.55) * np.exp(rng.normal(0, 0.12, 3))
    head = np.array([0, body[1] + 0.6 * size[1], rng.uniform(-0.05, 0.2)])
    blend.ball(head, size, near_color(coat, rng))
    _face(blend, rng, head, size, coat)
    if rng.random() < 0.85:
        shoulder = body * [0.8, rng.uniform(0.3, 0.8), 0]
        for scale in ([1], [1, -1])[int(rng.random() < 0.15)]:
            reach = rng.uniform(0.2, 0.7) * np.array([rng.uniform(0, 1), rng.uniform(-1, 0.6), rng.uniform(-0.2, 0.9)])
            hand = shoulder + reach
            thick, color = rng.uniform(0.06, 0.16), near_color(coat, rng)
            blend.rod(shoulder * [scale, 1, 1], hand * [scale, 1, 1], thick, color, mirror=scale == 1)
    if rng.random() < 0.85:
        hip = body * [0.5, -0.7, 0.1]
        reach = np.array([rng.uniform(0, 0.3), -rng.uniform(0.1, 0.7), rng.choice([0, 0.1, 0.5])])
        blend.rod(hip, hip + reach, rng.uniform(0.09, 0.2), near_color(coat, rng), mirror=True)
        foot = rng.uniform(0.1, 0.2) * np.array([1, 0.7, 1.5])
        blend.ball(hip + reach + [0, 0, 0.08], foot, near_color(coat, rng), mirror=True)
    if rng.random() < 0.3:
        hat = head + size * [0, 1, 0]
        blend.rod(hat, hat + np.array([0, rng.uniform(0.05, 0.4), 0]), rng.uniform(0.08, 0.25), random_color(rng))
    return blend.mesh()


def blob(rng: np.random.Generator) -> Mesh:
    """Some ellipsoids and rods anywhere, mostly mirrored: fruit, stones, toys, sculptures."""
    blend = _Blend(rng.uniform(0.01, 0.1))
    base = random_color(rng)
    mirrored = rng.random() < 0.6
    for number in range(rng.integers(1, 7)):
        at = rng.normal(0, 0.35, 3) if number else np.zeros(3)
        color = near_color(base, rng) if rng.random() < 0.7 else random_color(rng)
        if rng.random() < 0.75 or not number:
            blend.ball(at, rng.uniform(0.12, 0.55, 3), color, mirror=mirrored and number > 0)
        else:
            blend.rod(at, rng.normal(0, 0.5, 3), rng.uniform(0.06, 0.2), color, mirror=mirrored)
    return blend.mesh()


def chiselled(rng: np.random.Generator) -> Mesh:
    """Boxes, rods and balls put together and cut out of each other, edges slightly rounded."""
    line = torch.linspace(-1.05, 1.05, GRID + 4)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    if rng.random() < 0.6:
        points = points * torch.tensor([1.0, 1.0, 1.0])
        points[:, 0] = points[:, 0].abs()
    field = torch.full((len(points),), math.inf)
    for number in range(rng.integers(2, 6)):
        at = torch.tensor(rng.uniform(-0.5, 0.5, 3) if number else np.zeros(3)).float()
        half = torch.tensor(rng.uniform(0.12, 0.6, 3) if number else rng.uniform(0.3, 0.8, 3)).float()
        away = (points - at).abs()
        kind = rng.choice(3, p=[0.5, 0.3, 0.2])
        if kind == 0:
            away = away - half
            solid = away.clamp_min(0).norm(dim=-1) + away.amax(-1).clamp_max(0)
        elif kind == 1:
            axis = int(rng.integers(3))
            rest = [i for i in range(3) if i != axis]
            solid = torch.maximum(away[:, rest].norm(dim=-1) - half[rest[0]], away[:, axis] - half[axis])
        else:
            solid = (away / half).norm(dim=-1) * half.min() - half.min()
        field = torch.maximum(field, -solid) if number and rng.random() < 0.35 else torch.minimum(field, solid)
    side = len(line)
    mesh = isosurface(field.reshape(side, side, side) - rng.uniform(0, 0.04), (-1.05,) * 3, (1.05,) * 3)
    return patched(mesh, rng)
