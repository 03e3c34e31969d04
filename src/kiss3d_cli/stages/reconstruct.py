"""From the bundle to a closed mesh."""

from __future__ import annotations

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.stages.bundle import drawn


def hull(context: Context) -> None:
    """The visual hull of the bundle's four masks."""
    bundle = drawn(context)
    context.progress(0.2, "carving the visual hull")
    cameras = bundle_cameras(context.settings["camera.radius"])
    mesh = visual_hull(bundle.mask.float(), cameras, resolution=context.settings["reconstruct.resolution"])
    write_mesh(context.output / "mesh.ply", mesh)
    context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces))
