"""One object seen once: the picture that the network is given, and what it is to say about the shape.

Everything is measured in the framed picture: u to the right and v up in [-1, 1], z towards the camera in the same
unit, half the picture's side where it meets the plane through the middle of the object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.inflate.plain import plain_heights
from kiss3d_cli.geometry.mesh import Mesh, face_normals, vertex_normals
from kiss3d_cli.geometry.rasterize import BUILT_IN, interpolate, rasterize
from kiss3d_cli.geometry.rasterize.fragments import Fragments
from kiss3d_cli.training.looks import Look, draw_look, shade

SIZE = 128
"""Pixels a side of a picture and of what is said about it."""
FINE = 2
"""Points along each side of a pixel that are asked whether the object covers them."""
SIDES = 64
"""Pixels a side of what is seen from the sides."""
FILL = 0.85
COLUMN = 10
"""Points of a pixel's column that are asked whether they lie outside."""


@dataclass(frozen=True)
class Pose:
    """Where a camera stands. Degrees; `fov` is that of the framed picture."""

    azimuth: float
    elevation: float
    fov: float
    fill: float = FILL


@dataclass(frozen=True)
class Sample:
    """A picture and its truth, SIZE x SIZE; as small as it can be stored.

    Attributes:
        rgba: uint8; colour not multiplied by alpha.
        depth: float16 (2, S, S), front and back; 0 where `known` is not.
        base: float16 (S, S), height of the plain inflation of the picture's own silhouette.
        normals: int8 (S, S, 3), of the front, in the camera's axes, times 127.
        back: uint8 (S, S, 3), unlit colour of the surface seen from behind.
        sides: uint8 (S/2, S/2, 6), unlit: what is seen from the left and from the right in the pixel's row, half-way
            between its front and its back.
        sides_known: bool (S/2, S/2, 2).
        gap: bool (S, S), outside air lies between the front and the back.
        known: bool (S, S), the pixel shows the object.
    """

    rgba: np.ndarray
    depth: np.ndarray
    base: np.ndarray
    normals: np.ndarray
    back: np.ndarray
    sides: np.ndarray
    sides_known: np.ndarray
    gap: np.ndarray
    known: np.ndarray


def draw_pose(rng: np.random.Generator) -> Pose:
    """Mostly as people photograph things: a little from above, from every side."""
    elevation = rng.uniform(-10, 35) if rng.random() < 0.4 else rng.normal(7, 6)
    fov = rng.uniform(15, 50) if rng.random() < 0.4 else rng.normal(29, 4)
    fill = FILL * (1 if rng.random() < 0.7 else rng.uniform(0.96, 1.04))
    clipped = float(np.clip(elevation, -10, 35)), float(np.clip(fov, 15, 50))
    return Pose(float(rng.uniform(0, 360)), *clipped, float(fill))


@dataclass(frozen=True)
class _Seen:
    """A mesh in the framed picture's frame.

    Attributes:
        points: (N, 3) u, v, z.
        clip: (N, 4) for the rasteriser.
        rotation: world to camera.
    """

    points: Float[Tensor, "N 3"]
    clip: Float[Tensor, "N 4"]
    rotation: Float[Tensor, "3 3"]


def _look_at(mesh: Mesh, pose: Pose) -> _Seen:
    a, e = math.radians(pose.azimuth), math.radians(pose.elevation)
    back = torch.tensor([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)])
    rotation = torch.stack([right, torch.linalg.cross(back, right), back])
    local = mesh.vertices @ rotation.T
    local = local - (local.amin(0) + local.amax(0)) / 2
    tangent = math.tan(math.radians(pose.fov / 2))
    half = (local.amax(0) - local.amin(0))[:2].max() / 2
    # so far away that the framed picture has the wanted field of view; never so close that the object is cut
    distance = max(float(half) / (pose.fill * tangent), float(local[:, 2].max()) + 0.35)
    w = distance - local[:, 2]
    screen = local[:, :2] / w[:, None]
    low, high = screen.amin(0), screen.amax(0)
    unit = float((high - low).max()) / 2 / pose.fill
    screen = (screen - (low + high) / 2) / unit
    clip = torch.stack([screen[:, 0] * w, screen[:, 1] * w, 0 * w, w], -1)
    return _Seen(torch.cat([screen, local[:, 2:] / (unit * distance)], -1), clip, rotation)


def _farthest(clip: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
    """The same pixels, the order of depths turned around: straight lines stay straight, and 1/w stays linear."""
    w = clip[:, 3]
    turned = 1 / (2 / w.min() - 1 / w)
    return clip * (turned / w)[:, None]


def draw_view(mesh: Mesh, pose: Pose, rng: np.random.Generator, look: Look | None = None) -> Sample:
    """Renders an object and everything that is to be learned about it.

    Args:
        mesh: its box's middle at the origin, its longest side 2, y up.
        pose: the camera.
        rng: decides looks and the errors of the cut-out.
        look: material and light; random if None.

    Raises:
        BadInput: the object covers too little of the picture to show anything.
    """
    look = draw_look(rng) if look is None else look
    seen = _look_at(mesh, pose)
    faces = mesh.faces
    fragments = rasterize(seen.clip[None], faces, (SIZE, SIZE))
    behind = rasterize(_farthest(seen.clip)[None], faces, (SIZE, SIZE))
    known = fragments.mask[0] & behind.mask[0]
    if int(known.sum()) < 0.01 * SIZE**2:
        raise BadInput("the object covers too little of the picture")
    colors = torch.full_like(mesh.vertices, 0.6) if mesh.colors is None else mesh.colors
    albedo = look.recolored(colors, mesh.vertices, rng)
    front, back_depth = (interpolate(seen.points[:, 2:], faces, found)[0, ..., 0] for found in (fragments, behind))
    depth = torch.stack([front, torch.minimum(back_depth, front)]) * known
    rgb, normals = _lit(mesh, seen, fragments, albedo, look)
    back = _unlit(mesh, behind, albedo, look)
    alpha, color = _cut_out(_coverage(seen.clip, faces).numpy(), rgb.numpy(), known.numpy(), rng)
    sides, sides_known, gap = _from_the_sides(seen, mesh, albedo, look, depth, known)
    return Sample(
        rgba=_bytes(np.concatenate([color, alpha[..., None]], -1)),
        depth=depth.numpy().astype(np.float16),
        base=plain_heights(alpha, SIZE).astype(np.float16),
        normals=(normals.numpy() * 127).round().astype(np.int8),
        back=_bytes(back.numpy()),
        sides=_bytes(sides.numpy()),
        sides_known=sides_known.numpy(),
        gap=gap.numpy(),
        known=known.numpy(),
    )


def _lit(
    mesh: Mesh, seen: _Seen, fragments: Fragments, albedo: Tensor, look: Look
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 3"]]:
    """The shaded picture, and the normals in the camera's axes, facing the camera."""
    mask = fragments.mask[0]
    faced = face_normals(mesh.vertices, mesh.faces)
    faced = faced / faced.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    world = faced[fragments.face_id[0].clamp_min(0)]
    if look.smooth:
        soft = interpolate(vertex_normals(mesh.vertices, mesh.faces), mesh.faces, fragments)[0]
        # across sharp edges the mean of the two sides is neither
        soft = soft / soft.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        sign = torch.where((soft * world).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        near = (soft * sign * world).sum(-1, keepdim=True) > look.crease
        world = torch.where(near, soft * sign, world)
    normals = world @ seen.rotation.T
    normals = torch.where(normals[..., 2:] < 0, -normals, normals) * mask[..., None]
    where = interpolate(mesh.vertices, mesh.faces, fragments)[0]
    color = _unlit(mesh, fragments, albedo, look)
    shadow = torch.ones_like(where[..., 0])
    if look.shadow > 0:
        shadow = 1 - look.shadow * _in_shadow(mesh, seen, where, look)
    return shade(color, normals, shadow, look), normals


def _in_shadow(mesh: Mesh, seen: _Seen, where: Float[Tensor, "H W 3"], look: Look) -> Float[Tensor, "H W"]:
    """1 where the sun does not reach: its own depth map is closer."""
    sun = torch.tensor(look.sun).float() @ seen.rotation
    other = torch.linalg.cross(sun, torch.tensor([0.31, 0.57, 0.76]))
    other = other / other.norm()
    axes = torch.stack([other, torch.linalg.cross(sun, other), sun])
    size = 160

    def project(points: Tensor) -> Tensor:
        local = points @ axes.T
        w = 20 - local[..., 2]
        return torch.stack([local[..., 0] / 1.8 * w, local[..., 1] / 1.8 * w, 0 * w, w], -1)

    depth = rasterize(project(mesh.vertices)[None], mesh.faces, (size, size)).depth[0]
    at = project(where)
    column = ((at[..., 0] / at[..., 3] + 1) * size / 2).long().clamp(0, size - 1)
    row = ((1 - at[..., 1] / at[..., 3]) * size / 2).long().clamp(0, size - 1)
    return (at[..., 3] > depth[row, column] + 0.05).float()


def _from_the_sides(
    seen: _Seen,
    mesh: Mesh,
    albedo: Tensor,
    look: Look,
    depth: Float[Tensor, "2 S S"],
    known: Bool[Tensor, "S S"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours from the left and the right, where they are known, and the gaps.

    A point lies outside if it is seen from the left or the right, in the picture's own frame.
    """
    u, v, z = seen.points.unbind(-1)
    reach = float(seen.points[:, 2].abs().max()) * 1.02
    z_front, z_back = depth[:, ::2, ::2]
    there = known[::2, ::2]
    line = (torch.arange(SIDES) + 0.5) / SIDES * 2 - 1
    share = (torch.arange(COLUMN) + 0.5) / COLUMN
    column_z = z_back + (z_front - z_back) * share[:, None, None]
    outside = torch.zeros(COLUMN, SIDES, SIDES, dtype=torch.bool)
    colors, covered = [], []
    size = (SIDES, SIDES)
    index = torch.arange(SIDES)
    for sign in (1, -1):  # from the left, from the right
        w = 10 + sign * u
        found = rasterize(torch.stack([z / reach * w, v * w, 0 * w, w], -1)[None], mesh.faces, size)
        nearest = torch.where(found.mask[0], found.depth[0] - 10, torch.tensor(1e9))
        at = ((column_z / reach + 1) / 2 * SIDES).long().clamp(0, SIDES - 1)
        outside |= sign * line < nearest[index[None, :, None].expand_as(at), at] - 2.5 / SIDES
        place = (((z_front + z_back) / 2 / reach + 1) / 2 * SIDES).long().clamp(0, SIDES - 1)
        rows = index[:, None].expand_as(place)
        colors.append(_unlit(mesh, found, albedo, look)[rows, place])
        covered.append(found.mask[0][rows, place] & there)
    inner = outside[1:-1].float().mean(0)
    gap = (inner > 0.15) & there
    wide = gap.repeat_interleave(2, 0).repeat_interleave(2, 1) & known
    return torch.cat(colors, -1), torch.stack(covered, -1), wide


def _unlit(mesh: Mesh, fragments: Fragments, albedo: Float[Tensor, "N 3"], look: Look) -> Float[Tensor, "H W 3"]:
    where = interpolate(mesh.vertices, mesh.faces, fragments)[0]
    return look.textured(interpolate(albedo, mesh.faces, fragments)[0], where)


def _coverage(clip: Float[Tensor, "N 4"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "S S"]:
    """Share of each pixel that the object covers, from FINE x FINE points."""
    fine = SIZE * FINE
    found = BUILT_IN.find(clip[None], faces.T.contiguous().T, (fine, fine))[0] >= 0
    return found.reshape(SIZE, FINE, SIZE, FINE).float().mean((1, 3))


def _cut_out(
    alpha: Float[np.ndarray, "S S"],
    rgb: Float[np.ndarray, "S S 3"],
    known: Bool[np.ndarray, "S S"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S 3"]]:
    """The alpha and the colours as a real cut-out would have them: eaten, fringed, filled or frayed by a pixel."""
    # pixels that are covered in part, but not at their centre, have their neighbours' colour
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    rgb = np.where(alpha[..., None] > 0, rgb[nearest[0], nearest[1]], 1.0)
    ground = rng.random(3)
    if rng.random() < 0.5:
        return alpha, rgb
    error = rng.choice(5)
    kernel = np.ones((3, 3), np.uint8)
    if error == 0:
        damaged = cv2.erode(alpha.astype(np.float32), kernel)
    elif error == 1:
        damaged = cv2.dilate(alpha.astype(np.float32), kernel)
    elif error == 2:
        damaged = ndimage.gaussian_filter(alpha, rng.uniform(0.5, 1.2))
    elif error == 3:
        noise = ndimage.gaussian_filter(rng.normal(0, 1, alpha.shape), 1.5) * 1.5
        damaged = np.clip(ndimage.gaussian_filter(alpha, 0.7) + noise * ((alpha > 0.02) & (alpha < 0.98)), 0, 1)
    else:
        holes = ndimage.binary_fill_holes(alpha > 0.5) & (alpha < 0.5)
        labels, count = ndimage.label(holes)
        area = np.bincount(labels.ravel(), minlength=count + 1)
        damaged = np.where(holes & (area[labels] < 60), 1.0, alpha)
    fringe = np.clip(damaged - cv2.erode(alpha.astype(np.float32), kernel), 0, 1)[..., None] * rng.uniform(0, 0.8)
    if (damaged > 0.5).sum() < 40:
        return alpha, rgb
    lost = (alpha <= 0)[..., None] & (damaged > 0)[..., None]
    return damaged.astype(np.float64), np.where(lost, ground, rgb * (1 - fringe) + ground * fringe)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)
