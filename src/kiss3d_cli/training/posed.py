"""One object seen by several posed cameras: what a network learns view synthesis from.

The first four views are the bundle's ring (front, right, back, left), as a run asks for them; the others are random.
What a run knows of the unseen sides, the front inflated to a surface, is drawn beside the last three of the ring.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.views import show_surface
from kiss3d_cli.geometry.mesh import Mesh, face_normals, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.training.looks import Look, draw_look, shade

RING = 4
"""Views at the bundle's places; the others are random."""
FINE = 2
"""Samples along each side of a pixel."""
PICTURE = 128
"""Pixels a side at least of the front that is inflated."""
RIGID = 1e-3
"""Largest error of a rotation's products of axes."""
LARGEST_SIDE = 0.95
"""Half the longest side of an object in the bundle, in world units."""


@dataclass(frozen=True)
class PosedViews:
    """V pictures of one object, S x S, and their cameras.

    Attributes:
        rgb: on white, sRGB-encoded.
        mask: the object's share of each pixel, 255 for all of it.
        world_to_camera: rigid, OpenGL axes, world with y up; the object is about the origin.
        intrinsics: focal lengths and principal point (x to the right, y down), in shares of the picture's side.
        coarse: colours on white and mask of the first view's inflation, seen by the K views after it; K may be 0.
    """

    rgb: UInt8[np.ndarray, "V S S 3"]
    mask: UInt8[np.ndarray, "V S S"]
    world_to_camera: Float[np.ndarray, "V 4 4"]
    intrinsics: Float[np.ndarray, "V 4"]
    coarse: UInt8[np.ndarray, "K S S 4"]


def check_cameras(world_to_camera: np.ndarray, intrinsics: np.ndarray, place: str) -> None:
    """
    Args:
        world_to_camera: (..., V, 4, 4).
        intrinsics: (..., V, 4), as of `PosedViews`.

    Raises:
        BadInput: a pose is not finite, not rigid or mirrored, or a focal length is not above 0.
    """
    hint = "a pose is a rotation and a translation: three unit axes at right angles, right-handed, and no scale"
    if not (np.isfinite(world_to_camera).all() and np.isfinite(intrinsics).all()):
        raise BadInput("a camera has numbers that are not finite", place=place, hint=hint)
    rotation = world_to_camera[..., :3, :3].astype(np.float64)
    error = np.abs(rotation @ rotation.swapaxes(-1, -2) - np.eye(3)).max((-1, -2))
    last = np.abs(world_to_camera[..., 3, :] - [0, 0, 0, 1]).max(-1)
    if error.max(initial=0) > RIGID or last.max(initial=0) > RIGID:
        number = int(np.argmax(np.maximum(error, last)))
        cause = f"the pose of view {number % intrinsics.shape[-2]} is not rigid"
        raise BadInput(cause, place=place, hint=hint)
    if (np.linalg.det(rotation) < 0).any():
        raise BadInput("a pose is mirrored: its axes are left-handed", place=place, hint=hint)
    if (intrinsics[..., :2] <= 0).any():
        raise BadInput("a focal length is not above 0", place=place)


def as_opengl(world_to_camera: Float[np.ndarray, "*B 4 4"], place: str) -> Float[np.ndarray, "*B 4 4"]:
    """Poses with OpenGL's axes from those of OpenGL or OpenCV: which they are, the side of the world's origin says.

    Raises:
        BadInput: the origin, about which the object is, lies beside a camera.
    """
    ahead = world_to_camera[..., 2, 3]
    if (np.abs(ahead) < 1e-6).any() or (np.sign(ahead) != np.sign(ahead.flat[0])).any():
        raise BadInput(
            "the cameras do not all look at the origin", place=place, hint="are these world-to-camera poses?"
        )
    flip = np.diag([1.0, -1, -1, 1]) if ahead.flat[0] > 0 else np.eye(4)
    return flip @ world_to_camera


def intrinsics_of(cameras: Cameras) -> Float[np.ndarray, "V 4"]:
    """Focal lengths and principal point in shares of the picture's side."""
    projection = cameras.projection.numpy()
    centre = np.full(len(projection), 0.5)
    return np.stack([projection[:, 0, 0] / 2, projection[:, 1, 1] / 2, centre, centre], -1).astype(np.float32)


def draw_cameras(rng: np.random.Generator, count: int) -> Cameras:
    """The bundle's ring first, then random cameras that look at the origin: any azimuth, mostly a little from above,
    20 to 45 degrees of field of view, a distance at which the object fills most of the picture.
    """
    ring = bundle_cameras()[list(range(min(RING, count)))]
    poses, projections = [ring.world_to_camera], [ring.projection]
    for _ in range(count - RING):
        elevation = float(np.clip(rng.normal(8, 12) if rng.random() < 0.6 else rng.uniform(-30, 60), -35, 70))
        fov = float(rng.uniform(20, 45))
        distance = rng.uniform(1.0, 1.35) / math.tan(math.radians(fov / 2))
        camera = orbit_cameras([float(rng.uniform(0, 360))], elevation, max(2.1, distance), fov)
        poses.append(camera.world_to_camera)
        projections.append(camera.projection)
    return Cameras(torch.cat(poses), torch.cat(projections))


def draw_posed(mesh: Mesh, rng: np.random.Generator, count: int, size: int, look: Look | None = None) -> PosedViews:
    """Renders an object from all sides, its light fixed to it.

    Args:
        mesh: its box's middle at the origin, its longest side 2, y up, facing +z.
        rng: decides where it turns to, its size, its look and the cameras.
        count: views.
        size: pixels a side.
        look: material and light, in the front camera's axes; random if None.

    Raises:
        BadInput: the front shows too little of the object.
    """
    # what depends on the camera would not be the same surface from another side
    look = dataclasses.replace(draw_look(rng) if look is None else look, outline=0.0)
    turn = 0.0 if rng.random() < 0.5 else rng.uniform(0, 2 * math.pi)
    c, s = math.cos(turn), math.sin(turn)
    rotation = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    placed = mesh.with_vertices(mesh.vertices @ rotation * (LARGEST_SIDE * float(rng.uniform(0.85, 1.0))))
    cameras = draw_cameras(rng, count)
    colors = torch.full_like(placed.vertices, 0.6) if placed.colors is None else placed.colors
    albedo = look.recolored(colors, placed.vertices, rng)
    rgb, mask = _seen(placed, cameras, albedo, look, size)
    if float(mask[0].mean()) < 0.01:
        raise BadInput("the object covers too little of the picture")
    coarse = np.zeros((0, size, size, 4), np.uint8)
    if count >= RING:
        coarse = _bytes(_coarse(placed, cameras, albedo, look, size))
    return PosedViews(
        _bytes(rgb), _bytes(mask), cameras.world_to_camera.numpy().astype(np.float32), intrinsics_of(cameras), coarse
    )


def _seen(
    mesh: Mesh, cameras: Cameras, albedo: Float[Tensor, "N 3"], look: Look, size: int
) -> tuple[Float[Tensor, "V S S 3"], Float[Tensor, "V S S"]]:
    """Pictures on white, and the share of each pixel that the object covers."""
    fine = size * FINE
    fragments = rasterize(cameras.clip(mesh.vertices), mesh.faces, (fine, fine))
    faced = torch.nn.functional.normalize(face_normals(mesh.vertices, mesh.faces), dim=-1, eps=1e-12)
    normals = faced[fragments.face_id.clamp_min(0)]
    if look.smooth:
        soft = interpolate(vertex_normals(mesh.vertices, mesh.faces), mesh.faces, fragments)
        soft = torch.nn.functional.normalize(soft, dim=-1, eps=1e-6)
        soft = torch.where((soft * normals).sum(-1, keepdim=True) < 0, -soft, soft)
        normals = torch.where((soft * normals).sum(-1, keepdim=True) > look.crease, soft, normals)
    where = interpolate(mesh.vertices, mesh.faces, fragments)
    towards = cameras.centers[:, None, None] - where
    normals = torch.where((normals * towards).sum(-1, keepdim=True) < 0, -normals, normals)
    flat = look.textured(interpolate(albedo, mesh.faces, fragments).flatten(1, 2), where.flatten(1, 2))
    lit = shade(flat, normals.flatten(1, 2), torch.ones(flat.shape[:2]), look).reshape(where.shape)
    known = fragments.mask[..., None].float()
    white = lit * known + 1 - known
    both = torch.cat([white, known], -1).reshape(len(cameras), size, FINE, size, FINE, 4).mean((2, 4))
    return both[..., :3], both[..., 3]


def _coarse(
    mesh: Mesh, cameras: Cameras, albedo: Float[Tensor, "N 3"], look: Look, size: int
) -> Float[Tensor, "K S S 4"]:
    """The front inflated, seen by the rest of the ring: as a run guesses the sides that it was not shown."""
    side = max(PICTURE, size)
    front = cameras[[0]]
    rgb, alpha = (found[0] for found in _seen(mesh, front, albedo, look, side))
    cover = alpha[..., None].clamp_min(1e-3)
    own = torch.where(alpha[..., None] > 0, (rgb - 1 + cover) / cover, torch.ones(3)).clamp(0, 1)
    guess = inflate(alpha, front)
    others = cameras[list(range(1, RING))]
    fine = (size * FINE, size * FINE)
    views = show_surface(guess, own, alpha, others, fine).views
    mask = render_normals(guess.mesh, others, fine, antialiased=False).mask
    both = torch.cat([views, mask[..., None]], -1)
    return both.reshape(len(others), size, FINE, size, FINE, 4).mean((2, 4))


def _bytes(values: Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
