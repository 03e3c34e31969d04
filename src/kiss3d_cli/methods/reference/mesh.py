"""The reference bundle of a given mesh."""

from __future__ import annotations

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras


class MeshSettings(Cameras):
    tile: int = Field(512, ge=64, le=1024)
    """Side length of the rendered views of a given mesh, in pixels."""


class Mesh(Weightless[MeshSettings]):
    """The colours of a given mesh over its normals, as the bundle's cameras see them."""

    stage, name, version = "reference", "mesh", 1
    settings = MeshSettings
    reads = ("preprocess/mesh.ply",)
    writes = ("reference_bundle.png", "mesh.ply")
    help = "takes `--mesh`"

    def cost(self, settings: MeshSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=1, memory=0.2 * GIB)

    def work(self, settings: MeshSettings, machine: Machine, context: Context) -> None:
        import shutil

        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.render import render_colors, render_normals
        from kiss3d_cli.image.bundle import Bundle, write_bundle

        mesh, cameras = read_mesh(context.inputs["preprocess/mesh.ply"]), bundle_cameras(settings.radius)
        size = (settings.tile, settings.tile)
        context.progress(0.2, "rendering colours and normals")
        colors = render_colors(mesh, cameras, size, antialiased=False).colors
        normals = render_normals(mesh, cameras, size)
        bundle = Bundle(colors, normals.normals, normals.mask > 0.5)
        write_bundle(context.output / "reference_bundle.png", bundle)
        shutil.copyfile(context.inputs["preprocess/mesh.ply"], context.output / "mesh.ply")
