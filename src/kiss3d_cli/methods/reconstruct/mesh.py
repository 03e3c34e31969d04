"""A given mesh as the start of the refinement."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings


class Mesh(Weightless[Settings]):
    """The mesh of `--mesh`, instead of one that the reconstruction model makes of the bundle."""

    stage, name, version = "reconstruct", "mesh", 1
    reads = ("preprocess/mesh.ply", "bundle/bundle.png")
    writes = ("mesh.ply",)
    help = "takes `--mesh`"

    def cost(self, settings: Settings, around: Surroundings) -> Cost:
        return Cost(host_seconds=0.1)

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        import shutil

        shutil.copyfile(context.inputs["preprocess/mesh.ply"], context.output / "mesh.ply")
