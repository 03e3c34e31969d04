"""From a rough mesh and the bundle to the final, coloured mesh."""

from __future__ import annotations

import dataclasses

import torch

from kiss3d_cli.core.stage import Context, Settings
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.rasterize import find_backend
from kiss3d_cli.geometry.refine.isomer import IsomerSettings, refine
from kiss3d_cli.geometry.surface.repair import decimate
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.geometry.texture.bake import bake, unwrap
from kiss3d_cli.geometry.texture.project import Photographs, project_colors
from kiss3d_cli.stages.bundle import drawn


def isomer(context: Context) -> None:
    """Move the surface to agree with the normals, then colour it: a texture, or colours of the vertices."""
    settings = context.settings
    device = context.device.torch
    bundle = drawn(context)
    cameras = bundle_cameras(settings["camera.radius"])
    start = settings["refine.start"]
    if start == "reconstruct":
        start = read_mesh(context.inputs["reconstruct/mesh.ply"]).to(device)
    backend = find_backend(settings["refine.rasterizer"], device)
    context.warnings.extend([*bundle.notes, *([backend.note] if backend.note else [])])
    refined = refine(
        start,
        bundle.normals.to(device),
        bundle.mask.to(device),
        cameras.to(device),
        isomer_settings(settings),
        backend=backend,
        progress=lambda share, doing: context.progress(0.65 * share, doing),
    )
    context.warnings.extend(refined.notes)
    mesh = decimate(refined.mesh.to("cpu"), settings["refine.target_faces"])
    context.progress(0.7, "projecting colours")
    weights = torch.tensor(settings["refine.color_weights"])
    photographs = Photographs(cameras, bundle.rgb, bundle.mask, weights)
    mesh = mesh.with_colors(project_colors(mesh, photographs))
    texture = None
    if settings["refine.texture"]:
        context.progress(0.75, "unwrapping")
        atlas = unwrap(mesh, settings["refine.texture_size"])
        context.progress(0.85, "baking the texture")
        texture = bake(mesh, photographs, atlas, settings["refine.texture_size"])
    context.progress(0.95, "writing")
    for suffix in ("glb", "obj", "ply"):
        write_mesh(context.output / f"mesh.{suffix}", mesh, texture)
    context.facts["mesh"] = dataclasses.asdict(report(mesh.vertices.double().numpy(), mesh.faces.numpy()))
    context.facts["losses"] = [round(loss, 6) for loss in refined.losses[:: max(1, len(refined.losses) // 20)]]


def isomer_settings(settings: Settings) -> IsomerSettings:
    shared = {
        name: settings[f"refine.{name}"]
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
    default = IsomerSettings()
    fine = dataclasses.replace(
        default.fine,
        decay=settings["refine.decay"],
        ramp=settings["refine.ramp"],
        edge_lengths=settings["refine.edge_lengths"],
        bending_weight=settings["refine.bending_weight"],
        least_gradient=settings["refine.least_gradient"],
        **shared,
    )
    coarse = dataclasses.replace(
        default.coarse,
        decay=settings["refine.coarse_decay"],
        edge_lengths=settings["refine.coarse_edge_lengths"],
        **shared,
    )
    return IsomerSettings(
        size=settings["refine.size"],
        integrate=settings["refine.integrate"],
        coarse_steps=settings["refine.coarse_steps"],
        coarse=coarse,
        fine_steps=settings["refine.steps"],
        fine=fine,
        view_weights=settings["refine.view_weights"],
        expansion=settings["refine.expansion"],
        outside=settings["refine.outside"],
        renewals=settings["refine.renewals"],
        renewal_interval=settings["refine.renewal_interval"],
        target_faces=settings["refine.target_faces"],
    )
