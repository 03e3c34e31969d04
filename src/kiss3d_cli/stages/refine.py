"""From a rough mesh and the bundle to the final, coloured mesh."""

from __future__ import annotations

import dataclasses

import torch

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.bake import bake, unwrap
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.export import write_mesh
from kiss3d_cli.geometry.load import read_mesh
from kiss3d_cli.geometry.project import Photographs, project_colors
from kiss3d_cli.geometry.topology import report
from kiss3d_cli.imaging.bundle_grid import load_bundle

COLOR_WEIGHTS = (1.0, 0.5, 1.0, 0.5)
"""Of the front, right, back and left view: front and back of a bundle are its surest."""


def isomer(context: Context) -> None:
    """The mesh, coloured by projection: a texture, or colours of the vertices."""
    settings = context.settings
    bundle = load_bundle(context.inputs["bundle/bundle.png"])
    mesh = read_mesh(context.inputs["reconstruct/mesh.ply"])
    cameras = bundle_cameras(settings["camera.radius"])
    context.progress(0.6, "projecting colours")
    photographs = Photographs(cameras, bundle.rgb, bundle.mask, torch.tensor(COLOR_WEIGHTS))
    mesh = mesh.with_colors(project_colors(mesh, photographs))
    texture = None
    if settings["refine.texture"]:
        context.progress(0.7, "unwrapping")
        atlas = unwrap(mesh, settings["refine.texture_size"])
        context.progress(0.85, "baking the texture")
        texture = bake(mesh, photographs, atlas, settings["refine.texture_size"])
    context.progress(0.95, "writing")
    for suffix in ("glb", "obj", "ply"):
        write_mesh(context.output / f"mesh.{suffix}", mesh, texture)
    context.facts["mesh"] = dataclasses.asdict(report(mesh.vertices.double().numpy(), mesh.faces.numpy()))
