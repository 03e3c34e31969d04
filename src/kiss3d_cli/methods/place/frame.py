"""The result, transformed back to the frame of the given mesh."""

from __future__ import annotations

from kiss3d_cli.core.records import read_json
from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings


class Frame(Weightless[Settings]):
    """The final mesh in the frame of the mesh of `--mesh`: its axes, its place and its units."""

    stage, name, version = "place", "frame", 2
    reads = ("refine/mesh.glb", "refine/mesh.ply", "preprocess/frame.json")
    writes = ("mesh.glb", "mesh.obj", "mesh.ply")
    help = "restores the frame of `--mesh`"
    default = True

    def cost(self, settings: Settings, around: Surroundings) -> Cost:
        return Cost(host_seconds=1)

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.io.textured import read_textured_glb
        from kiss3d_cli.geometry.surface.clean import Frame as Placed

        record = read_json(context.inputs["preprocess/frame.json"])
        frame = Placed(record["up"], tuple(record["center"]), record["scale"])
        plain = read_mesh(context.inputs["refine/mesh.ply"])
        write_mesh(context.output / "mesh.ply", plain.with_vertices(frame.out_of_world(plain.vertices)))
        found = read_textured_glb(context.inputs["refine/mesh.glb"])
        mesh, texture = (plain, None) if found is None else found
        moved = mesh.with_vertices(frame.out_of_world(mesh.vertices))
        for suffix in ("glb", "obj"):
            write_mesh(context.output / f"mesh.{suffix}", moved, texture)
