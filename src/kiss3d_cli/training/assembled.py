"""Procedural meshes assembled from parts: turned, legged, stacked, stony and bent things."""

from __future__ import annotations

import math

import numpy as np
import torch
import trimesh

from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.training.paint import near_color, patched, random_color


def _joined(parts: list[tuple[trimesh.Trimesh, np.ndarray]]) -> Mesh:
    vertices, faces, colors, count = [], [], [], 0
    for part, color in parts:
        vertices.append(np.asarray(part.vertices))
        faces.append(np.asarray(part.faces) + count)
        colors.append(np.broadcast_to(color, (len(part.vertices), 3)))
        count += len(part.vertices)
    return Mesh(
        torch.tensor(np.concatenate(vertices)).float(),
        torch.tensor(np.concatenate(faces)).long(),
        torch.tensor(np.concatenate(colors)).float(),
    )


def _tube(path: np.ndarray, radius: np.ndarray, sides: int = 10) -> trimesh.Trimesh:
    """A tube about a path, its frame carried along; closed at its ends."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = np.cross(along, [0.31, 0.57, 0.76])
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, across)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = across[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
    vertices = (path[:, None] + radius[:, None, None] * ring).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(len(path) - 1), np.arange(sides), indexing="ij")
    a, b = i * sides + j, i * sides + (j + 1) % sides
    faces = np.concatenate([np.stack([a, b, a + sides], -1), np.stack([b, b + sides, a + sides], -1)]).reshape(-1, 3)
    ends = np.concatenate([path[[0]], path[[-1]]])
    n, last = len(vertices), (len(path) - 1) * sides
    k = np.arange(sides)
    caps = np.concatenate(
        [
            np.stack([np.full(sides, n), (k + 1) % sides, k], -1),
            np.stack([np.full(sides, n + 1), last + k, last + (k + 1) % sides], -1),
        ]
    )
    return trimesh.Trimesh(np.concatenate([vertices, ends]), np.concatenate([faces, caps]), process=False)


def lathed(rng: np.random.Generator) -> Mesh:
    """Turned about the upright axis, with handles, spouts and lids: cups, pots, bottles, lamps, trees, towers."""
    knots = rng.integers(3, 8)
    heights = np.sort(rng.uniform(-1, 1, knots)) if rng.random() < 0.5 else np.linspace(-1, 1, knots)
    heights[0], heights[-1] = -1, 1
    radii = rng.uniform(0.08, 0.75, knots)
    if rng.random() < 0.5:
        radii = np.maximum(radii, rng.uniform(0.3, 0.6))
    fine = np.linspace(-1, 1, 48)
    profile = np.interp(fine, heights, radii)
    if rng.random() < 0.65:
        wide = int(rng.integers(3, 15))
        profile = np.convolve(np.pad(profile, wide, mode="edge"), np.ones(2 * wide + 1) / (2 * wide + 1), "valid")
    if rng.random() < 0.35:
        profile *= np.sqrt(np.clip(1 - np.abs(fine) ** rng.uniform(2, 8), 0, 1))
    stretch = rng.uniform(0.4, 1.4)
    path = np.stack([0 * fine, fine * stretch, 0 * fine], -1)
    sides = int(rng.choice([4, 5, 6, 8, 32, 32, 32]))
    color = random_color(rng)
    body = _tube(path, profile, sides)
    mesh = _joined([(body, color)])
    if rng.random() < 0.5:
        # bands that run around it
        narrow = mesh.with_vertices(mesh.vertices * torch.tensor([0.2, 1.0, 0.2]))
        mesh = mesh.with_colors(patched(narrow, rng).colors)
    assert mesh.colors is not None
    parts = [(body, mesh.colors.numpy())]
    if rng.random() < 0.45:
        angle = np.linspace(-1.5, 1.5, 14)
        middle, size = rng.uniform(-0.4, 0.4), rng.uniform(0.2, 0.45)
        edge = float(np.interp(middle, fine, profile))
        handle = np.stack(
            [edge * 0.9 + size * np.cos(angle), middle * stretch + size * 1.2 * np.sin(angle), 0 * angle], -1
        )
        parts.append((_tube(handle, np.full(14, rng.uniform(0.03, 0.09))), near_color(color, rng)))
        if rng.random() < 0.5:
            reach = np.linspace(0, 1, 10)
            spout = np.stack([-(edge * 0.7 + reach * 0.5), (middle + reach**2 * 0.5) * stretch, 0 * reach], -1)
            parts.append((_tube(spout, np.linspace(0.16, 0.06, 10) * rng.uniform(0.7, 1.5)), near_color(color, rng)))
    if rng.random() < 0.3:
        lid = trimesh.creation.icosphere(2, rng.uniform(0.08, 0.2))
        lid.apply_translation([0, stretch * 1.03, 0])
        parts.append((lid, near_color(color, rng)))
    return _turned(_joined(parts), rng.uniform(0, 360))


def _turned(mesh: Mesh, degrees: float) -> Mesh:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return mesh.with_vertices(mesh.vertices @ torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]]))


def _solid(rng: np.random.Generator, size: np.ndarray) -> trimesh.Trimesh:
    """A box, a cylinder, a cone, a ball or a wedge of the given half sides."""
    kind = rng.choice(5, p=[0.5, 0.2, 0.08, 0.12, 0.1])
    if kind == 0:
        part = trimesh.creation.box([2, 2, 2])
    elif kind == 3:
        part = trimesh.creation.icosphere(2)
    elif kind == 4:
        corners = np.array([[x, y, z] for x in (-1, 1) for y, z in ((-1, -1), (-1, 1), (1, -1))])
        part = trimesh.convex.convex_hull(corners)
    else:
        part = (trimesh.creation.cylinder if kind == 1 else trimesh.creation.cone)(1, 2, sections=20)
        if kind == 2:
            part.apply_translation([0, 0, -1])
        if kind == 2 or rng.random() < 0.6:
            part.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
        elif rng.random() < 0.5:
            part.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    part.apply_scale(size)
    return part


def legged(rng: np.random.Generator) -> Mesh:
    """A board on legs, with backs, arms, shelves and drawers: chairs, tables, beds, stools, shelves."""
    wood = random_color(rng)
    width, deep, high = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.8)
    thick, leg = rng.uniform(0.03, 0.12), rng.uniform(0.03, 0.09)
    parts: list[tuple[trimesh.Trimesh, np.ndarray]] = []

    def put(size: list[float], at: list[float], color: np.ndarray) -> None:
        part = trimesh.creation.box(np.array(size) * 2)
        part.apply_translation(at)
        parts.append((part, color))

    if rng.random() < 0.2:
        part = trimesh.creation.cylinder(1, 2 * thick, sections=28)
        part.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
        part.apply_scale([width, 1, deep])
        parts.append((part, wood))
    else:
        put([width, thick, deep], [0, 0, 0], near_color(wood, rng))
    style = rng.choice(3, p=[0.65, 0.2, 0.15])
    tone = near_color(wood, rng)
    if style == 0:
        splay = rng.uniform(0.75, 1)
        for x in (-1, 1):
            for z in (-1, 1):
                put([leg, high, leg], [x * (width * splay - leg), -high - thick, z * (deep * splay - leg)], tone)
    elif style == 1:
        for x in (-1, 1):
            put([leg, high, deep * 0.9], [x * (width - leg), -high - thick, 0], tone)
    else:
        put([leg * 1.5, high, leg * 1.5], [0, -high, 0], tone)
        put([width * 0.5, thick, deep * 0.5], [0, -2 * high, 0], tone)
    if rng.random() < 0.55:
        tall = rng.uniform(0.3, 0.9)
        back = -deep + leg
        if rng.random() < 0.6:
            put([width, tall, leg], [0, tall + thick, back], near_color(wood, rng))
        else:
            bars = rng.integers(2, 6)
            for number in range(bars):
                bar = (2 * number / (bars - 1) - 1) * (width - leg)
                put([leg * 0.7, tall, leg * 0.7], [bar, tall + thick, back], tone)
            put([width, leg, leg], [0, 2 * tall, back], tone)
        if rng.random() < 0.4:
            for x in (-1, 1):
                put([leg, tall * 0.4, deep * 0.9], [x * width, tall * 0.4, 0], tone)
    if rng.random() < 0.3:
        cushion = trimesh.creation.icosphere(2)
        cushion.apply_scale([width * 0.85, thick * 2.5, deep * 0.85])
        cushion.apply_translation([0, thick, 0])
        parts.append((cushion, random_color(rng)))
    if rng.random() < 0.3:
        put([width * 0.95, thick, deep * 0.9], [0, -high * rng.uniform(0.5, 1.6), 0], near_color(wood, rng))
    return _joined(parts)


def assembled(rng: np.random.Generator) -> Mesh:
    """Solids stacked and stuck onto each other, mostly mirrored: houses, cars, machines, toys."""
    parts: list[tuple[trimesh.Trimesh, np.ndarray]] = []
    size = rng.uniform(0.25, 0.8, 3)
    color = random_color(rng)
    parts.append((_solid(rng, size), color))
    at, last = np.zeros(3), size
    for _ in range(rng.integers(1, 7)):
        small = last * rng.uniform(0.2, 1.0, 3)
        axis, sign = int(rng.choice(3, p=[0.25, 0.5, 0.25])), rng.choice([-1, 1], p=[0.2, 0.8])
        place = at + rng.uniform(-0.6, 0.6, 3) * (last - small).clip(0)
        place[axis] = at[axis] + sign * (last[axis] + small[axis]) * rng.uniform(0.8, 1)
        tone = near_color(color, rng) if rng.random() < 0.5 else random_color(rng)
        centred = axis != 0 and rng.random() < 0.7
        if centred:
            place[0] = at[0]
        part = _solid(rng, small)
        part.apply_translation(place)
        parts.append((part, tone))
        if not centred:
            twin = part.copy()
            twin.vertices[:, 0] *= -1
            parts.append((twin, tone))
        elif rng.random() < 0.5:
            at, last = place, small
    if rng.random() < 0.3:
        radius = rng.uniform(0.1, 0.25)
        for x in (-1, 1):
            for z in (-0.6, 0.6):
                wheel = trimesh.creation.cylinder(radius, 0.14, sections=18)
                wheel.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
                wheel.apply_translation([x * size[0], -size[1], z * size[2]])
                parts.append((wheel, np.full(3, rng.uniform(0.05, 0.3))))
    return _turned(_joined(parts), float(rng.choice([0, 90, 180, 270])))


def rock(rng: np.random.Generator) -> Mesh:
    """A ball with a height field on it: stones, bread, bushes, clouds, cushions."""
    ball = trimesh.creation.icosphere(4)
    points = np.asarray(ball.vertices)
    height = np.ones(len(points))
    for octave in range(1, 5):
        direction = rng.normal(0, 1, (6, 3)) * octave * rng.uniform(0.8, 2)
        height += rng.uniform(0, 0.22) / octave * np.sin(points @ direction.T + rng.uniform(0, 6, 6)).mean(1)
    if rng.random() < 0.3:
        height = np.minimum(height, rng.uniform(0.6, 1) / np.abs(points).max(1))
    ball.vertices = points * height[:, None] * rng.uniform(0.4, 1, 3)
    return patched(_joined([(ball, np.zeros(3))]), rng)


def bent(rng: np.random.Generator) -> Mesh:
    """Tubes along smooth random paths: pipes, plants, letters, cables, worms."""
    parts = []
    for _ in range(rng.integers(1, 5)):
        t = np.linspace(0, 1, 28)[:, None]
        path = sum(rng.normal(0, 0.6 / k, 3) * np.sin(k * np.pi * t + rng.uniform(0, 6, 3)) for k in (1, 2, 3))
        radius = rng.uniform(0.05, 0.25) * (1 - rng.uniform(0, 0.9) * t[:, 0] ** 2)
        parts.append((_tube(np.asarray(path), radius, 12), random_color(rng)))
    return _joined(parts)
