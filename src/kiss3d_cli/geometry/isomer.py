"""ISOMER: a mesh refined until it looks like the normal maps (Wu et al. 2024, "Unique3D").

Normals fix slopes, not depths: where the start has a step that the object has not, moving vertices along the
normals' gradient leaves a crease. So, unless told otherwise, the normal maps are first integrated to depth maps that
agree with each other and with the silhouettes (integrate.py), and the surface through these (fuse.py) is refined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.depth_maps import camera_rays
from kiss3d_cli.geometry.explicit_target import explicit_target
from kiss3d_cli.geometry.flexicubes import isosurface
from kiss3d_cli.geometry.fuse import fuse_depths, largest_component
from kiss3d_cli.geometry.hull import HullField, check_masks, grid_points, hull_depths, visual_hull
from kiss3d_cli.geometry.integrate import IntegrationSettings, integrate_normals
from kiss3d_cli.geometry.manifold import find_edges, vertex_laplacian
from kiss3d_cli.geometry.mesh import Mesh, steady_sum, vertex_normals
from kiss3d_cli.geometry.rasterize import antialias, interpolate, rasterize
from kiss3d_cli.geometry.remesh import remesh
from kiss3d_cli.geometry.remesh_optimizer import RemeshOptimizer, RemeshSettings
from kiss3d_cli.geometry.repair import repair

_LIMIT = 0.99
"""Half the side of the box that stage 1 keeps the vertices in."""


@dataclass(frozen=True)
class IsomerSettings:
    """
    Attributes:
        size: side of the pictures that the mesh is compared with, in pixels.
        integrate: begin with the surface through the integrated normal maps.
        integration: how they are integrated.
        coarse_steps: steps of stage 1, for coarse starts such as a sphere.
        coarse: stage 1's step and edge lengths.
        fine_steps: steps of stage 2.
        fine: stage 2's step and edge lengths.
        view_weights: weight of each view's normals.
        expansion: weight of the term that moves vertices along their normals in stage 1.
        outside: weight of the share of vertices outside the box in stage 1.
        renewals: stage 2 renews the explicit target in so many first steps, and then every `renewal_interval`.
        renewal_interval: see `renewals`.
        target_faces: faces of the result, about; edge lengths do not fall below what this many faces have.
    """

    size: int = 512
    integrate: bool = True
    integration: IntegrationSettings = field(default_factory=IntegrationSettings)
    coarse_steps: int = 0
    coarse: RemeshSettings = field(
        default_factory=lambda: RemeshSettings(decay=0.995, ramp=1, edge_lengths=(0.1, 0.02), gain=0.05)
    )
    fine_steps: int = 50
    fine: RemeshSettings = field(default_factory=RemeshSettings)
    view_weights: tuple[float, ...] = (1.0, 0.9, 1.0, 0.9)
    expansion: float = 0.1
    outside: float = 10.0
    renewals: int = 5
    renewal_interval: int = 20
    full_support: float = 0.3
    filling: float = 0.3
    target_faces: int = 50_000


@dataclass(frozen=True)
class Refined:
    """
    Attributes:
        mesh: a closed manifold of one component.
        losses: of every step, stage 1 first.
        notes: sentences on what was repaired or done otherwise than asked.
    """

    mesh: Mesh
    losses: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Views:
    """What the mesh is to look like: V views of S x S pixels."""

    normals: Float[Tensor, "V S S 3"]
    mask: Bool[Tensor, "V S S"]
    cameras: Cameras


def refine(
    start: Mesh | Literal["hull", "sphere"],
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    settings: IsomerSettings | None = None,
) -> Refined:
    """The mesh that fits the views' normals and silhouettes.

    Args:
        start: a rough mesh, the visual hull of the masks, or a sphere.
        normals: camera-space unit normals (x right, y up, z to the viewer); anything outside the mask.
        mask: where the object is.
        cameras: one for each view.
        settings: sizes, steps and weights.

    Raises:
        BadInput: a start without faces or with vertices that are not finite, empty masks, normals that are not.
    """
    settings = settings or IsomerSettings()
    notes: list[str] = []
    views = _check_views(normals, mask, cameras, settings, notes)
    mesh = _start_mesh(start, views, notes)
    losses: list[float] = []
    if settings.integrate:
        mesh = _integrated(None if isinstance(start, str) else mesh, views, settings)
    if settings.coarse_steps:
        mesh = _stage_one(mesh, views, settings, losses)
    if settings.fine_steps:
        mesh = _stage_two(mesh, views, settings, losses)
    return Refined(largest_component(mesh), tuple(losses), tuple(notes))


def _check_views(
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    settings: IsomerSettings,
    notes: list[str],
) -> _Views:
    check_masks(mask.float(), cameras)
    if normals.shape[:3] != mask.shape:
        raise BadInput(
            f"Normals of shape {tuple(normals.shape[:3])} do not fit masks of {tuple(mask.shape)}.",
            hint="Give one normal for each pixel of the masks.",
        )
    if len(settings.view_weights) != len(cameras):
        raise BadInput(
            f"{len(settings.view_weights)} view weights were given for {len(cameras)} views.",
            hint="Set one weight for each view.",
        )
    length = normals.norm(dim=-1)
    if not bool(normals[mask].isfinite().all()):
        raise BadInput("The normals hold values that are not finite.", hint="Make the bundle again.")
    off = (length[mask] - 1).abs()
    if float(off.median()) > 0.5:
        raise BadInput(
            f"The normals are not unit vectors: half of them are off by more than {float(off.median()):.2f}.",
            hint="Check that the lower row holds normals as ((-nx, ny, nz) + 1) / 2.",
        )
    usable = mask & (length > 0.1)
    unit = torch.where(usable[..., None], normals / length.clamp_min(0.1)[..., None], 0)
    towards = -(unit * camera_rays(cameras, mask.shape[1])).sum(-1)[usable] > 0
    if float(towards.float().mean()) < 0.5:
        raise BadInput(
            "Most normals point away from their cameras.",
            hint="Check that the lower row holds camera-space normals as ((-nx, ny, nz) + 1) / 2.",
        )
    border = torch.ones_like(mask)
    border[:, 1:-1, 1:-1] = False
    if bool((mask & border).any()):
        notes.append("The object touches the border of a view; it was cut off there.")
    return _Views(unit, usable, cameras)


def _start_mesh(start: Mesh | Literal["hull", "sphere"], views: _Views, notes: list[str]) -> Mesh:
    if isinstance(start, Mesh):
        repaired = repair(start)
        notes.extend(repaired.notes)
        if not repaired.defects.is_closed_manifold:
            raise BadInput("The start mesh could not be made a closed surface.", hint="Start from the hull instead.")
        return repaired.mesh.with_colors(None)
    hull = visual_hull(views.mask.float(), views.cameras, resolution=96)
    if start == "hull":
        return hull
    low, high = hull.vertices.amin(0), hull.vertices.amax(0)
    return _ellipsoid((low + high) / 2, (high - low) / 2)


def _ellipsoid(centre: Float[Tensor, 3], radii: Float[Tensor, 3]) -> Mesh:
    ball = isosurface(grid_points(24, 1.2, centre.device).norm(dim=-1) - 1, (-1.2,) * 3, (1.2,) * 3)
    return Mesh(ball.vertices * radii + centre, ball.faces)


def _integrated(start: Mesh | None, views: _Views, settings: IsomerSettings) -> Mesh:
    silhouettes = views.mask.float()
    hull = HullField.of(silhouettes, views.cameras)
    bounds = hull_depths(silhouettes, views.cameras)
    depth = None
    if start is not None:
        size = views.mask.shape[1]
        depth = rasterize(views.cameras.clip(start.vertices), start.faces, (size, size)).depth
    maps = integrate_normals(
        views.normals, views.mask, views.cameras, bounds.nearest, bounds.farthest, hull, depth, settings.integration
    )
    return fuse_depths(maps, hull)


def _stage_one(mesh: Mesh, views: _Views, settings: IsomerSettings, losses: list[float]) -> Mesh:
    """Towards the normals and silhouettes, growing along the normals: for starts far from the object."""
    target = views.cameras.normals_to_world(views.normals)
    optimizer = RemeshOptimizer(mesh, settings.coarse)
    for _ in range(settings.coarse_steps):
        vertices = optimizer.vertices
        shown = _show(Mesh(vertices, optimizer.faces), views, vertex_normals(vertices, optimizer.faces))
        covered = shown.mask * views.mask
        loss = (_weighted((shown.image - target) ** 2, settings) * covered[..., None]).mean()
        loss = loss + ((shown.coverage * ~views.mask) ** 2).mean()
        normals = vertex_normals(vertices, optimizer.faces).detach()
        loss = loss + settings.expansion * 0.5 * ((vertices - (vertices.detach() + normals)) ** 2).sum(-1).mean()
        loss = loss + settings.outside * (vertices.abs() - _LIMIT).clamp_min(0).mean()
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    return optimizer.mesh


def _stage_two(mesh: Mesh, views: _Views, settings: IsomerSettings, losses: list[float]) -> Mesh:
    """Towards the explicit target: one normal for each vertex, gathered from all views that see it."""
    fine = _limited(settings.fine, mesh, settings.target_faces)
    optimizer = RemeshOptimizer(mesh, fine)
    for _ in range(settings.fine_steps):
        vertices, faces = optimizer.vertices, optimizer.faces
        target = explicit_target(
            optimizer.mesh, views.normals, views.mask, views.cameras, settings.view_weights, settings.size
        )
        shown = _show(Mesh(vertices, faces), views, vertex_normals(vertices, faces) - target.normals, settings.size)
        loss = (_weighted(shown.image**2, settings) * shown.mask[..., None]).mean()
        loss = loss + ((shown.coverage - views.mask.to(loss)) ** 2).mean()
        loss.backward()
        losses.append(float(loss.detach()))
        unsure = 1 - (target.support / settings.full_support).clamp(0, 1)
        optimizer.step(fine.laplacian_weight + (settings.filling - fine.laplacian_weight) * unsure)
    return optimizer.mesh


@dataclass(frozen=True)
class _Shown:
    image: Float[Tensor, "V S S C"]
    mask: Bool[Tensor, "V S S"]
    coverage: Float[Tensor, "V S S"]


def _show(mesh: Mesh, views: _Views, attributes: Float[Tensor, "N C"], size: int = 512) -> _Shown:
    clip = views.cameras.clip(mesh.vertices)
    fragments = rasterize(clip, mesh.faces, (size, size))
    image = interpolate(attributes, mesh.faces, fragments)
    alpha = fragments.mask.to(clip)[..., None]
    coverage = antialias(alpha, clip, mesh.faces, fragments)[..., 0].clamp(0, 1)
    return _Shown(image, fragments.mask, coverage)


def _weighted(image: Float[Tensor, "V S S C"], settings: IsomerSettings) -> Float[Tensor, "V S S C"]:
    return image * image.new_tensor(settings.view_weights)[:, None, None, None]


def _limited(fine: RemeshSettings, mesh: Mesh, target_faces: int) -> RemeshSettings:
    """Edge lengths raised to what `target_faces` equilateral faces on the mesh's surface have."""
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    area = float(steady_sum(torch.linalg.cross(b - a, c - a, dim=-1).norm(dim=-1))) / 2
    least = math.sqrt(4 / math.sqrt(3) * area / target_faces)
    longest, shortest = fine.edge_lengths
    return replace(fine, edge_lengths=(max(longest, least), max(shortest, least)))


def smooth(mesh: Mesh, share: float = 0.5) -> Mesh:
    """One Laplacian smoothing step of a closed manifold."""
    return mesh.with_vertices(mesh.vertices + share * vertex_laplacian(mesh.vertices, find_edges(mesh.faces)))


__all__ = ["IsomerSettings", "Refined", "refine", "remesh"]
