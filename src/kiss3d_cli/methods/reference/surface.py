"""The reference bundle of the surface that the views were rendered from."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import VIEW_FILES, Cameras


class Surface(Weightless[Cameras]):
    """The views' colours over the normals of the surface that they were rendered from."""

    stage, name, version = "reference", "surface", 1
    settings = Cameras
    reads = (*(f"multiview/{name}" for name in VIEW_FILES), "multiview/surface.ply")
    writes = ("reference_bundle.png", "mesh.ply")
    help = "uses the surface that the views were rendered from"

    def cost(self, settings: Cameras, around: Surroundings) -> Cost:
        return Cost(host_seconds=1, memory=0.2 * GIB)

    def work(self, settings: Cameras, machine: Machine, context: Context) -> None:
        import shutil

        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.render import render_normals
        from kiss3d_cli.image.bundle import Bundle, join_bundle
        from kiss3d_cli.image.png import write_png
        from kiss3d_cli.image.views import VIEW_NAMES, read_views

        rgb = read_views({name: context.inputs[f"multiview/{name}.png"] for name in VIEW_NAMES})
        mesh = read_mesh(context.inputs["multiview/surface.ply"])
        context.progress(0.3, "rendering normals")
        rendered = render_normals(mesh, bundle_cameras(settings.radius), (rgb.shape[1], rgb.shape[2]))
        bundle = Bundle(rgb, rendered.normals, rendered.mask > 0.5)
        write_png(context.output / "reference_bundle.png", join_bundle(bundle))
        shutil.copyfile(context.inputs["multiview/surface.ply"], context.output / "mesh.ply")
