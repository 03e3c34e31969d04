"""A given mesh instead of a picture: in the world frame, remeshed, and seen from the front."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.preprocess.framing import WRITES, Framed
from kiss3d_cli.methods.shared import Cameras

FRAME = "frame.json"
GREY = 0.7
"""Of meshes without colours, sRGB-encoded."""
HALF = 0.7
"""Half the longest side of the mesh in the world: a cube of that size is whole in all four views."""


class MeshSettings(Framed, Cameras):
    up: Literal["y", "z"] = "y"
    """Up axis of a given mesh whose format does not state one; with `z`, its front faces -y."""
    edge: float = Field(0.02, ge=0.005, le=0.2)
    """Target edge length for remeshing a given mesh, in world units; half its longest side is 0.7."""


class Mesh(Weightless[MeshSettings]):
    """The mesh of `--mesh` in the world, closed and of even triangles; its front takes the place of the picture."""

    stage, name, version = "preprocess", "mesh", 1
    settings = MeshSettings
    reads = ("mesh",)
    writes = (*WRITES, "mesh.ply", FRAME)
    help = "takes `--mesh`"

    def cost(self, settings: MeshSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=3)

    def work(self, settings: MeshSettings, machine: Machine, context: Context) -> None:
        import dataclasses

        import numpy as np
        import torch

        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.render import render_colors
        from kiss3d_cli.geometry.surface.clean import Frame, mesh_anew
        from kiss3d_cli.geometry.surface.topology import report
        from kiss3d_cli.image.framing import frame_foreground
        from kiss3d_cli.image.png import write_png

        given = read_mesh(context.inputs["mesh"])
        if given.colors is None:
            context.warnings.append("The mesh has no colours that can be read; it is taken to be grey.")
            given = given.with_colors(torch.full_like(given.vertices, GREY))
        frame = Frame.of(given, settings.up, HALF)
        context.progress(0.1, "meshing anew")
        anew = mesh_anew(given.with_vertices(frame.into_world(given.vertices)), settings.edge)
        context.warnings.extend(anew.notes)
        mesh = anew.mesh
        context.progress(0.7, "rendering the front")
        shown = render_colors(mesh, bundle_cameras(settings.radius)[[0]], (settings.size, settings.size))
        cover = (255 * shown.mask[0]).round().to(torch.uint8).numpy()
        colors = (255 * shown.colors[0]).round().to(torch.uint8).numpy()
        framed = frame_foreground(colors, np.asarray(cover), size=settings.size, fill=settings.foreground)
        for name, pixels in zip(WRITES, (framed.rgb, framed.rgba, framed.mask), strict=True):
            write_png(context.output / name, pixels)
        write_mesh(context.output / "mesh.ply", mesh)
        record = json.dumps(dataclasses.asdict(frame), indent=2) + "\n"
        (context.output / FRAME).write_text(record, encoding="utf-8")
        context.facts["mesh"] = dataclasses.asdict(report(mesh.vertices.double().numpy(), mesh.faces.numpy()))
