"""The mesh that the reference shows."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.reconstruct.hull import Hull, HullSettings


class Surface(Weightless[HullSettings]):
    """The reference's own mesh where the bundle is the reference as it is; the visual hull of any other bundle."""

    stage, name, version = "reconstruct", "surface", 1
    settings = HullSettings
    reads = ("bundle/bundle.png",)
    takes = ("reference/reference_bundle.png", "reference/mesh.ply")
    writes = ("mesh.ply",)
    help = "uses the reference's surface"

    def cost(self, settings: HullSettings, around: Surroundings) -> Cost:
        if around.run.get("bundle.method") == "reference":
            return Cost(host_seconds=0.1, memory=0.15 * GIB)
        return Hull().cost(settings, around)

    def work(self, settings: HullSettings, machine: Machine, context: Context) -> None:
        import filecmp
        import shutil

        reference, mesh = (context.inputs.get(f"reference/{name}") for name in ("reference_bundle.png", "mesh.ply"))
        if reference is None or mesh is None or not filecmp.cmp(reference, context.inputs["bundle/bundle.png"], False):
            Hull().work(settings, machine, context)
            return
        context.progress(0.5, "taking the surface that the bundle shows")
        shutil.copyfile(mesh, context.output / "mesh.ply")
        context.facts["source"] = "reference/mesh.ply"
