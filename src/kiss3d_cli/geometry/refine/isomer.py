"""ISOMER: a mesh refined until it looks like the normal maps (Wu et al. 2024, "Unique3D").

Normals fix slopes, not depths: where the start has a step that the object has not, moving vertices along the
normals' gradient leaves a crease. So, unless told otherwise, the normal maps are first integrated to depth maps that
agree with each other and with the silhouettes (integrate.py), and the surface through these (fuse.py) is refined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import normalize

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.threads import side_by_side
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.depth.fuse import fuse_depths
from kiss3d_cli.geometry.depth.integrate import integrate_normals
from kiss3d_cli.geometry.depth.maps import camera_rays
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.extract.hull import HullField, check_masks, grid_points, hull_depths, visual_hull
from kiss3d_cli.geometry.mesh import Mesh, steady_sum, vertex_normals
from kiss3d_cli.geometry.rasterize import BUILT_IN, Backend, Edges, Fragments, antialias, interpolate, rasterize
from kiss3d_cli.geometry.refine.agreement import shows_already
from kiss3d_cli.geometry.refine.explicit_target import TargetViews
from kiss3d_cli.geometry.settings import IsomerSettings, RemeshSettings
from kiss3d_cli.geometry.surface.components import keep_large_components
from kiss3d_cli.geometry.surface.remesh_optimizer import RemeshOptimizer
from kiss3d_cli.geometry.surface.repair import repair, what_to_try

_LIMIT = 0.99
"""Half the side of the box that stage 1 keeps the vertices in."""

_CRUMB = 0.005
"""Pieces with less than this share of the largest one's faces are no part of the object."""

_EARLY = 0.5
"""Share of stage 2's steps that compare pictures of half the side, if that is no less than `_LEAST_SIZE`."""
_LEAST_SIZE = 128

_SETTLED = 0.9
"""Mean edge length after 50 steps, in reference edge lengths."""


@dataclass(frozen=True)
class Refined:
    """
    Attributes:
        mesh: a closed manifold, of one component for each piece of the object.
        losses: of every step, stage 1 first.
        notes: sentences on what was repaired or done otherwise than asked.
        known: the start shows the views as they are.
        unchanged: the mesh is that start.
    """

    mesh: Mesh
    losses: tuple[float, ...]
    notes: tuple[str, ...]
    known: bool = False
    unchanged: bool = False


@dataclass(frozen=True)
class _Views:
    """What the mesh is to look like: V views of S x S pixels.

    Attributes:
        normals: (V, S, S, 3) camera-space unit normals, 0 outside the mask.
        coverage: (V, S, S) share of each pixel that the object covers.
        cameras: one for each view.
        weights: (V,) of the views' normals.
        backend: who finds the visible faces.
    """

    normals: Float[Tensor, "V S S 3"]
    coverage: Float[Tensor, "V S S"]
    cameras: Cameras
    weights: Float[Tensor, " V"]
    backend: Backend

    @property
    def mask(self) -> Bool[Tensor, "V S S"]:
        return self.coverage > 0.5

    def resized(self, size: int) -> _Views:
        if self.coverage.shape[1] == size:
            return self
        images = torch.cat([self.normals, self.coverage[..., None]], -1).movedim(-1, 1)
        images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True).movedim(1, -1)
        normals, coverage = images[..., :3], images[..., 3]
        normals = normalize(normals, dim=-1) * (coverage > 0.5)[..., None]
        return replace(self, normals=normals, coverage=coverage)

    def parts(self) -> list[_Views]:
        """Each half of the views."""
        numbers = torch.arange(len(self.cameras)).chunk(2)
        return [
            replace(
                self,
                normals=self.normals[part],
                coverage=self.coverage[part],
                cameras=self.cameras[part.tolist()],
                weights=self.weights[part],
            )
            for part in numbers
        ]


def _silent(share: float, doing: str, /) -> None:
    del share, doing


def refine(
    start: Mesh | Literal["hull", "sphere"],
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    settings: IsomerSettings | None = None,
    *,
    backend: Backend = BUILT_IN,
    progress: Callable[[float, str], None] = _silent,
) -> Refined:
    """The mesh that fits the views' normals and silhouettes.

    Args:
        start: a rough mesh, the visual hull of the masks, or a sphere.
        normals: camera-space unit normals (x right, y up, z to the viewer); anything outside the mask.
        mask: where the object is.
        cameras: one for each view.
        settings: sizes, steps and weights.
        backend: who finds the visible faces.
        progress: told before each step which share of the work is done, and what comes; what it raises stops the work.

    Raises:
        BadInput: a start without faces or with vertices that are not finite, empty masks, normals that are not.
    """
    settings = settings or IsomerSettings()
    notes: list[str] = []
    views = _check_views(normals, mask, cameras, settings, backend, notes)
    mesh = _start_mesh(start, views, notes)
    losses: list[float] = []
    known = isinstance(start, Mesh) and shows_already(mesh, views.normals, views.mask, views.cameras)
    if settings.integrate and not known:
        progress(0.05, "integrating the normals")
        mesh = _integrated(None if isinstance(start, str) else mesh, views, settings)
    views = views.resized(settings.size)
    steps = settings.coarse_steps + settings.fine_steps

    def step() -> None:
        progress(0.15 + 0.85 * len(losses) / steps, f"step {len(losses) + 1} of {steps}")

    if settings.coarse_steps:
        mesh = _stage_one(mesh, views, settings, losses, step)
    if settings.fine_steps:
        mesh = _stage_two(mesh, views, settings, losses, step)
    whole = mesh if known else keep_large_components(mesh, _CRUMB)
    return Refined(whole, tuple(losses), tuple(notes), known, known and not steps)


def _check_views(
    normals: Float[Tensor, "V S S 3"],
    mask: Bool[Tensor, "V S S"],
    cameras: Cameras,
    settings: IsomerSettings,
    backend: Backend,
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
    return _Views(unit, usable.to(unit), cameras, unit.new_tensor(list(settings.view_weights)), backend)


def _start_mesh(start: Mesh | Literal["hull", "sphere"], views: _Views, notes: list[str]) -> Mesh:
    if isinstance(start, Mesh):
        repaired = repair(start)
        notes.extend(repaired.notes)
        if not repaired.defects.is_closed_manifold:
            raise BadInput("The start mesh could not be made a closed surface.", hint=what_to_try())
        return repaired.mesh.with_colors(None)
    hull = visual_hull(views.coverage, views.cameras, resolution=96)
    if start == "hull":
        return hull
    low, high = hull.vertices.amin(0), hull.vertices.amax(0)
    return _ellipsoid((low + high) / 2, (high - low) / 2)


def _ellipsoid(centre: Float[Tensor, 3], radii: Float[Tensor, 3]) -> Mesh:
    ball = isosurface(grid_points(24, 1.2, centre.device).norm(dim=-1) - 1, (-1.2,) * 3, (1.2,) * 3)
    return Mesh(ball.vertices * radii + centre, ball.faces)


def _integrated(start: Mesh | None, views: _Views, settings: IsomerSettings) -> Mesh:
    hull = HullField.of(views.coverage, views.cameras)
    bounds = hull_depths(views.coverage, views.cameras)
    depth = None
    if start is not None:
        size = views.mask.shape[1]
        depth = rasterize(views.cameras.clip(start.vertices), start.faces, (size, size)).depth
    maps = integrate_normals(
        views.normals, views.mask, views.cameras, bounds.nearest, bounds.farthest, hull, depth, settings.integration
    )
    return fuse_depths(maps, hull)


def _stage_one(
    mesh: Mesh, views: _Views, settings: IsomerSettings, losses: list[float], progress: Callable[[], None]
) -> Mesh:
    """Towards the normals and silhouettes, growing along the normals: for starts far from the object."""
    optimizer = RemeshOptimizer(mesh, settings.coarse)
    for _ in range(settings.coarse_steps):
        progress()
        ahead = optimizer.vertices.detach() + vertex_normals(optimizer.vertices, optimizer.faces).detach()

        def loss(vertices: Float[Tensor, "N 3"], part: _Views) -> Float[Tensor, ""]:
            shown = _Shown.of(vertices, optimizer, part)
            target = part.cameras.normals_to_world(part.normals)
            covered = (shown.fragments.mask * part.coverage)[..., None]
            normals = shown.picture(vertex_normals(vertices, optimizer.faces))
            loss = _mean_square((normals - target) * covered, part.weights)
            loss = loss + _mean_square(shown.coverage * (1 - part.coverage))
            loss = loss + settings.expansion * 0.5 * ((vertices - ahead) ** 2).sum(-1).mean()  # noqa: B023
            return loss + settings.outside * (vertices.abs() - _LIMIT).clamp_min(0).mean()

        losses.append(_differentiate(loss, optimizer, views))
        optimizer.step()
    return optimizer.mesh


def _stage_two(
    mesh: Mesh, views: _Views, settings: IsomerSettings, losses: list[float], progress: Callable[[], None]
) -> Mesh:
    """Towards the explicit target: one normal for each vertex, gathered from all views that see it."""
    fine = _limited(settings.fine, mesh, settings.target_faces)
    targets = TargetViews.of(views.normals, views.mask, views.cameras, views.weights, views.backend)
    optimizer = RemeshOptimizer(mesh, fine)
    small = views.resized(settings.size // 2) if settings.size >= 2 * _LEAST_SIZE else views
    for step in range(settings.fine_steps):
        progress()
        compared = small if step < _EARLY * settings.fine_steps else views
        if step < settings.renewals or step % settings.renewal_interval == 0:
            target = targets.gather(optimizer.mesh)
            optimizer.carried = torch.cat([target.normals, target.support[:, None]], 1)
        wanted, support = normalize(optimizer.carried[:, :3], dim=-1), optimizer.carried[:, 3]

        def loss(vertices: Float[Tensor, "N 3"], part: _Views) -> Float[Tensor, ""]:
            shown = _Shown.of(vertices, optimizer, part)
            difference = vertex_normals(vertices, optimizer.faces) - wanted  # noqa: B023
            loss = _mean_square(shown.picture(difference), part.weights)
            return loss + _mean_square(shown.coverage - part.coverage)

        losses.append(_differentiate(loss, optimizer, compared))
        unsure = 1 - (support / settings.full_support).clamp(0, 1)
        optimizer.step(fine.laplacian_weight + (settings.filling - fine.laplacian_weight) * unsure)
    return optimizer.mesh


def _differentiate(
    loss: Callable[[Float[Tensor, "N 3"], _Views], Float[Tensor, ""]], optimizer: RemeshOptimizer, views: _Views
) -> float:
    """Mean over all views of a loss, which is itself a mean over some, and its gradient in the optimiser's vertices.

    On a CPU each half has a thread of its own; the halves, and so the result, are the same on any number of threads.
    """

    def differentiate(part: _Views) -> tuple[float, Tensor]:
        leaf = optimizer.vertices.detach().requires_grad_()
        value = loss(leaf, part) * (len(part.cameras) / len(views.cameras))
        (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient

    found = side_by_side(differentiate, views.parts(), optimizer.vertices.device)
    values, gradients = zip(*found, strict=True)
    optimizer.vertices.grad = torch.stack(gradients).sum(0)
    return sum(values)


@dataclass(frozen=True)
class _Shown:
    """What some views show of the mesh that is being optimised, differentiable in its vertices."""

    faces: Int[Tensor, "F 3"]
    fragments: Fragments
    coverage: Float[Tensor, "V S S"]

    @staticmethod
    def of(vertices: Float[Tensor, "N 3"], optimizer: RemeshOptimizer, views: _Views) -> _Shown:
        clip = views.cameras.clip(vertices)
        size = views.coverage.shape[1]
        # What a pixel shows belongs to the surface: a vertex that slides along it should not change the loss.
        fragments = rasterize(clip.detach(), optimizer.faces, (size, size), views.backend, closed=True)
        alpha = fragments.mask.to(clip)[..., None]
        edges = Edges.of_manifold(optimizer.edges, optimizer.faces)
        coverage = antialias(alpha, clip, optimizer.faces, fragments, edges)[..., 0].clamp(0, 1)
        return _Shown(optimizer.faces, fragments, coverage)

    def picture(self, attributes: Float[Tensor, "N C"]) -> Float[Tensor, "V S S C"]:
        return interpolate(attributes, self.faces, self.fragments)


def _mean_square(images: Float[Tensor, "V S *C"], weights: Float[Tensor, " V"] | float = 1.0) -> Float[Tensor, ""]:
    """Row by row, so that the order of additions does not depend on the number of threads."""
    rows = images.square().reshape(*images.shape[:2], -1).mean(2)
    return (rows.mean(1) * weights).mean()


def _limited(fine: RemeshSettings, mesh: Mesh, target_faces: int) -> RemeshSettings:
    """Edge lengths raised to what `target_faces` equilateral faces on the mesh's surface have."""
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    area = float(steady_sum(torch.linalg.cross(b - a, c - a, dim=-1).norm(dim=-1))) / 2
    least = math.sqrt(4 / math.sqrt(3) * area / target_faces) / _SETTLED
    longest, shortest = fine.edge_lengths
    return replace(fine, edge_lengths=(max(longest, least), max(shortest, least)))
