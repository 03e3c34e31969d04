"""The visual hull of the bundle's masks."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.reconstruct.grid import Grid
from kiss3d_cli.methods.shared import Cameras


class HullSettings(Grid, Cameras):
    """Where the cameras stand, and how finely space is cut."""


class Hull(Weightless[HullSettings]):
    """The visual hull of the bundle's masks."""

    stage, name, version = "reconstruct", "hull", 1
    settings = HullSettings
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)
    help = "carves the visual hull"

    def cost(self, settings: HullSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=2, memory=0.2 * GIB)

    def work(self, settings: HullSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.geometry.extract.hull import visual_hull
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.methods.bundle.drawn import drawn
        from kiss3d_cli.methods.bundle.elsewhere import cameras_of

        bundle = drawn(context)
        context.progress(0.2, "carving the visual hull")
        cameras = cameras_of(bundle, settings.radius)
        mesh = visual_hull(bundle.mask.float(), cameras, resolution=settings.resolution)
        write_mesh(context.output / "mesh.ply", mesh)
        context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces))
