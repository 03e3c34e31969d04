"""From a rough mesh and the bundle to the final, coloured mesh (ISOMER, Wu et al. 2024)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from kiss3d_cli.geometry.settings import COLOR_WEIGHTS, VIEW_WEIGHTS
from kiss3d_cli.geometry.settings import IsomerSettings as Geometry
from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras, Share

if TYPE_CHECKING:
    from torch import Tensor

    from kiss3d_cli.geometry.mesh import Mesh
    from kiss3d_cli.geometry.refine import isomer as geometry
    from kiss3d_cli.image.bundle import Bundle

STEP_BYTES, INTEGRATION_BYTES = 3.0e9, 3.0e9
"""Traffic of a step and of the integration at 512 pixels: their seconds on a processor over its rate of copying."""
FINISH_SECONDS, TEXTURE_SECONDS = 3.0, 6.0
"""Of decimating, colouring and writing, and of a texture of 2048 pixels."""

Length = Annotated[float, Field(ge=0.001, le=1)]
DEFAULT = Geometry()
"""The refinement's own defaults, which are the settings' too."""


class IsomerSettings(Cameras):
    start: Literal["reconstruct", "hull", "sphere"] = "reconstruct"
    """Initial surface: the mesh of the reconstruct stage, the visual hull of the masks, or a sphere."""
    integrate: bool = DEFAULT.integrate
    """Integrate the normals to depth maps first, unless the initial surface already matches them: normals alone
    can't correct a depth discontinuity."""
    size: int = Field(DEFAULT.size, ge=64, le=1024)
    """Side length of the views that the mesh is compared with, in pixels."""
    view_weights: tuple[Share, Share, Share, Share] = VIEW_WEIGHTS
    """Weight of the normals of the front, right, back and left view."""
    steps: int = Field(DEFAULT.fine_steps, ge=0, le=1000)
    """Optimisation steps towards the explicit target (stage 2)."""
    decay: float = Field(DEFAULT.fine.decay, ge=0.5, le=1)
    """Learning rate decay per step."""
    ramp: int = Field(DEFAULT.fine.ramp, ge=1, le=100)
    """Warm-up steps of the learning rate."""
    edge_lengths: tuple[Length, Length] = DEFAULT.fine.edge_lengths
    """Largest and smallest reference edge length of these steps, in world units."""
    renewals: int = Field(DEFAULT.renewals, ge=1, le=1000)
    """Number of initial steps that each recompute the explicit target; afterwards it is recomputed at every
    interval."""
    renewal_interval: int = Field(DEFAULT.renewal_interval, ge=1, le=1000)
    """Steps between recomputations of the explicit target."""
    coarse_steps: int = Field(DEFAULT.coarse_steps, ge=0, le=1000)
    """Steps of stage 1, which precedes stage 2; for coarse initial surfaces."""
    coarse_decay: float = Field(DEFAULT.coarse.decay, ge=0.5, le=1)
    """Learning rate decay per step of stage 1."""
    coarse_edge_lengths: tuple[Length, Length] = DEFAULT.coarse.edge_lengths
    """Largest and smallest reference edge length of stage 1, in world units."""
    expansion: float = Field(DEFAULT.expansion, ge=0, le=10)
    """Weight of the term of stage 1 that moves vertices along their normals."""
    outside: float = Field(DEFAULT.outside, ge=0, le=1000)
    """Weight of the term of stage 1 that keeps vertices inside the box."""
    learning_rate: float = Field(DEFAULT.fine.learning_rate, ge=0.001, le=10)
    """Learning rate of both stages, in reference edge lengths."""
    betas: tuple[Share, Share, Share] = DEFAULT.fine.betas
    """Decay rates of the running gradient, its running square and the velocity."""
    gain: float = Field(DEFAULT.fine.gain, ge=0, le=1)
    """Gain of the edge length controller: relative change of the reference edge length per unit of velocity error."""
    velocity_reference: float = Field(DEFAULT.fine.velocity_reference, ge=0.001, le=10)
    """Mean relative velocity at which the reference edge length is kept."""
    edge_tolerance: float = Field(DEFAULT.fine.edge_tolerance, ge=0.05, le=1)
    """Relative tolerance of edge lengths around the reference."""
    laplacian_weight: float = Field(DEFAULT.fine.laplacian_weight, ge=0, le=1)
    """Laplacian smoothing per step: share of the way to the mean of a vertex's neighbours."""
    bending_weight: float = Field(DEFAULT.fine.bending_weight, ge=0, le=0.4)
    """Bi-Laplacian smoothing per step, which removes noise without shrinking the surface."""
    least_gradient: float = Field(DEFAULT.fine.least_gradient, ge=0, le=10)
    """Floor of the gradient normalisation, relative to the mesh's root mean square; smaller gradients take smaller
    steps."""
    gradient_limit: float = Field(DEFAULT.fine.gradient_limit, ge=0.1, le=1000)
    """Gradients are clipped at this multiple of their running norm."""
    target_faces: int = Field(DEFAULT.target_faces, ge=100, le=2_000_000)
    """Maximum number of faces of the final mesh."""
    color_weights: tuple[Share, Share, Share, Share] = COLOR_WEIGHTS
    """Weight of the colours of the front, right, back and left view."""
    keep_parts: bool = True
    """Restore parts that the refined surface has lost from the framed picture: thin parts and separate components."""
    texture: bool = True
    """Bake a texture; if off, the mesh has vertex colours."""
    texture_size: int = Field(2048, ge=256, le=8192)
    """Side length of the texture, in pixels."""
    rasterizer: Literal["torch", "nvdiffrast", "pytorch3d"] = "torch"
    """Back end for visibility: `torch` is built in; the others are used where they are installed and work."""


class Isomer(Weightless[IsomerSettings]):
    """Move the surface to agree with the normals, then colour it: a texture, or colours of the vertices."""

    stage, name, version = "refine", "isomer", 15
    settings = IsomerSettings
    reads = ("bundle/bundle.png", "reconstruct/mesh.ply")
    takes = ("preprocess/mesh.ply", "preprocess/image_rgba.png")
    writes = ("mesh.glb", "mesh.obj", "mesh.ply")
    help = "optimises the surface to match the normals"
    default = True

    def cost(self, settings: IsomerSettings, around: Surroundings) -> Cost:
        steps = settings.steps + settings.coarse_steps
        pixels = (settings.size / 512) ** 2
        texture = TEXTURE_SECONDS * (settings.texture_size / 2048) ** 2 if settings.texture else 0.0
        return Cost(
            traffic=STEP_BYTES * steps * pixels + (INTEGRATION_BYTES * pixels if steps and settings.integrate else 0),
            host_seconds=FINISH_SECONDS + texture,
            video=2 * GIB,
            memory=0.4 * GIB,
        )

    def work(self, settings: IsomerSettings, machine: Machine, context: Context) -> None:
        import torch

        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.rasterize import find_backend
        from kiss3d_cli.geometry.refine.isomer import refine
        from kiss3d_cli.geometry.surface.decimate import nearest_colors
        from kiss3d_cli.geometry.surface.topology import report
        from kiss3d_cli.geometry.texture.bake import bake
        from kiss3d_cli.geometry.texture.charts import unwrap
        from kiss3d_cli.geometry.texture.project import Photographs, Projector
        from kiss3d_cli.methods.bundle.drawn import drawn
        from kiss3d_cli.methods.bundle.elsewhere import cameras_of, weights_of
        from kiss3d_cli.methods.refine.missing import with_missing_parts

        device = machine.device.torch
        bundle = drawn(context)
        cameras = cameras_of(bundle, settings.radius)
        backend = find_backend(settings.rasterizer, device)
        context.warnings.extend([*bundle.notes, *([backend.note] if backend.note else [])])
        refined = refine(
            settings.start
            if settings.start != "reconstruct"
            else read_mesh(context.inputs["reconstruct/mesh.ply"]).to(device),
            bundle.normals.to(device),
            bundle.mask.to(device),
            cameras.to(device),
            dataclasses.replace(_geometry(settings), view_weights=weights_of(bundle, settings.view_weights)),
            backend=backend,
            progress=lambda share, doing: context.progress(0.65 * share, doing),
        )
        context.warnings.extend(refined.notes)
        # a given mesh that nothing was drawn over keeps its creases, and its own colours, also where no view shows them
        own = context.inputs.get("preprocess/mesh.ply") if refined.unchanged else None
        inflated = refined.known and "preprocess/mesh.ply" not in context.inputs
        mesh = _with_faces(refined, settings.target_faces, round_off=inflated)
        added = None
        if settings.keep_parts and not refined.known and (picture := _front(context, bundle)) is not None:
            completed = with_missing_parts(mesh, *picture, settings.radius, settings.target_faces)
            mesh, added = completed.mesh, completed.own
            context.warnings.extend(completed.notes)
        context.progress(0.7, "projecting colours")
        weights = torch.tensor(weights_of(bundle, settings.color_weights))
        photographs = Photographs(cameras, bundle.rgb, bundle.mask, weights, exact=refined.unchanged)
        if own is not None:
            mesh = mesh.with_colors(nearest_colors(mesh.vertices, read_mesh(own)))
            projector = Projector(mesh, dataclasses.replace(photographs, weights=torch.zeros_like(weights)))
            context.facts["colors"] = "of the given mesh"
        else:
            projector = Projector(mesh, photographs, added)
            mesh = mesh.with_colors(projector.spread.clamp(0, 1))
        texture = None
        if settings.texture:
            context.progress(0.75, "unwrapping")
            atlas = unwrap(mesh, cameras, settings.texture_size)
            context.progress(0.85, "baking the texture")
            texture = bake(mesh, projector, atlas, settings.texture_size)
        context.progress(0.95, "writing")
        for suffix in ("glb", "obj", "ply"):
            write_mesh(context.output / f"mesh.{suffix}", mesh, texture)
        context.facts["mesh"] = dataclasses.asdict(report(mesh.vertices.double().numpy(), mesh.faces.numpy()))
        context.facts["losses"] = [round(loss, 6) for loss in refined.losses[:: max(1, len(refined.losses) // 20)]]


def _front(context: Context, bundle: Bundle) -> tuple[Tensor, Tensor] | None:
    """Colours and alpha of the framed picture; of a bundle without one, of its own front view, where that is known."""
    import torch

    from kiss3d_cli.image.png import read_png

    framed = context.inputs.get("preprocess/image_rgba.png")
    if framed is not None:
        rgba = torch.from_numpy(read_png(framed).copy()).float() / 255
        return rgba[..., :3], rgba[..., 3]
    return (bundle.rgb[0], bundle.mask[0].float()) if bundle.views is None else None


def _with_faces(refined: geometry.Refined, target: int, *, round_off: bool) -> Mesh:
    """The final mesh of at most so many faces. An inflated surface has no creases: those of its sampling are rounded
    off."""
    from kiss3d_cli.geometry.surface.decimate import decimate
    from kiss3d_cli.geometry.surface.fairing import ease_bent_edges
    from kiss3d_cli.geometry.surface.rounding import round_bent_edges

    whole = refined.mesh.to("cpu")
    mesh = decimate(whole, target)
    if not round_off:
        return mesh
    rounded = round_bent_edges(mesh)
    if len(rounded.faces) <= target:
        return ease_bent_edges(rounded)
    room = 2 * target - len(rounded.faces)
    if 2 * room < target:  # of so few faces nearly every edge is bent: that is the shape, not its sampling
        return mesh
    fewer = decimate(whole, room)
    rounded = round_bent_edges(fewer)
    return ease_bent_edges(rounded if len(rounded.faces) <= target else fewer)


def _geometry(settings: IsomerSettings) -> Geometry:
    """The same for the geometry, which knows no configuration."""
    shared = {
        name: getattr(settings, name)
        for name in (
            "learning_rate",
            "betas",
            "gain",
            "velocity_reference",
            "edge_tolerance",
            "laplacian_weight",
            "gradient_limit",
        )
    }
    fine = dataclasses.replace(
        DEFAULT.fine,
        decay=settings.decay,
        ramp=settings.ramp,
        edge_lengths=settings.edge_lengths,
        bending_weight=settings.bending_weight,
        least_gradient=settings.least_gradient,
        **shared,
    )
    coarse = dataclasses.replace(
        DEFAULT.coarse,
        decay=settings.coarse_decay,
        edge_lengths=settings.coarse_edge_lengths,
        **shared,
    )
    return dataclasses.replace(
        DEFAULT,
        size=settings.size,
        integrate=settings.integrate,
        coarse_steps=settings.coarse_steps,
        coarse=coarse,
        fine_steps=settings.steps,
        fine=fine,
        view_weights=settings.view_weights,
        expansion=settings.expansion,
        outside=settings.outside,
        renewals=settings.renewals,
        renewal_interval=settings.renewal_interval,
        target_faces=settings.target_faces,
    )
