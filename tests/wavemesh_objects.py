"""A small asymmetric object as signed distances with views, and networks to try on it."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.truncated import Grid
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.views import PosedImages
from kiss3d_cli.training.fields import Field, field_of
from kiss3d_cli.training.looks import draw_look

CAMERA_KEYS = ("world_to_camera", "projection")
GRID = Grid(16)
TINY = WaveMeshConfig(resolution=16, widths=(16, 16), patch_width=16, layers=1, lifted=8, steps=100)


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    vertices = torch.from_numpy(np.array(solid.vertices)).float()
    faces = torch.from_numpy(np.array(solid.faces)).long()
    return Mesh(vertices, faces, (vertices * 0.4 + 0.5).clamp(0, 1))


def lamp() -> Mesh:
    """No symmetry about any axis: two boxes that overlap, the upper one off to the front right."""
    foot = trimesh.creation.box((1.0, 0.5, 0.8))
    head = trimesh.creation.box((0.5, 0.9, 0.4))
    head.apply_translation((0.3, 0.35, 0.25))
    foot.apply_translation((0, -0.3, 0))
    return mesh_of(trimesh.util.concatenate([foot, head]))


def around() -> Cameras:
    """The ring and two cameras of other heights, distances and fields of view."""
    ring, high, low = bundle_cameras(), orbit_cameras([40.0], 50.0, 5.0, 25.0), orbit_cameras([250.0], -20.0, 3.0, 45.0)
    return Cameras(*(torch.cat([getattr(one, key) for one in (ring, high, low)]) for key in CAMERA_KEYS))


def field(mesh: Mesh | None = None, cameras: Cameras | None = None) -> Field:
    mesh = mesh or lamp()
    look = draw_look(np.random.default_rng(0))
    look = type(look)(**{**vars(look), "unlit": True, "smooth": False, "texture": 0.0, "outline": 0.0})
    assert mesh.colors is not None
    return field_of(mesh, look, mesh.colors, GRID, 2 * GRID.cell, cameras=cameras)


def random_views(count: int, size: int = 64, seed: int = 0) -> PosedImages:
    cameras = bundle_cameras()
    generator = torch.Generator().manual_seed(seed)
    return PosedImages(
        torch.rand(count, 4, 7, size, size, generator=generator),
        cameras.world_to_camera.expand(count, 4, 4, 4),
        cameras.projection[:, 0, 0].expand(count, 4),
        torch.ones(count, 4, dtype=torch.bool),
    )


def ball(radius: float, resolution: int = 16, truncation: float = 2.0) -> torch.Tensor:
    grid = Grid(resolution)
    return ((grid.points().norm(dim=-1) - radius) / (truncation * grid.cell)).clamp(-1, 1)


def awake(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """What starts as zero made random: an untrained network would answer nothing, whatever it is asked."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if not bool(value.any()):
                value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    return module
