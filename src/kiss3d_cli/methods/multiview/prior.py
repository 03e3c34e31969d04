"""Four views of the shape that the learned prior predicts from the picture."""

from __future__ import annotations

from pathlib import Path

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.multiview.views import SIDES_TAKEN, WRITES, OwnWeights, Tiles
from kiss3d_cli.methods.shared import Cameras


class PriorSettings(Tiles, OwnWeights, Cameras):
    pass


class Prior(Weightless[PriorSettings]):
    """The front and the back that the learned prior says, joined to a surface, seen from four sides.

    Where pictures of other sides were given, the surface that all silhouettes allow; the prior is asked where none of
    them shows how deep the object is.
    """

    stage, name, version = "multiview", "prior", 3
    settings = PriorSettings
    reads = ("preprocess/image_rgba.png",)
    takes = SIDES_TAKEN
    writes = (*WRITES, "surface.ply")
    help = "renders a learned shape"

    def cost(self, settings: PriorSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=2, memory=0.1 * GIB)

    def work(self, settings: PriorSettings, machine: Machine, context: Context) -> None:
        import torch
        from jaxtyping import Float

        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.inflate.inflate import overhang, shrink_into_views
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.mesh import Mesh
        from kiss3d_cli.geometry.render import render_colors
        from kiss3d_cli.image.png import read_png
        from kiss3d_cli.image.views import VIEW_NAMES, to_bytes, write_views
        from kiss3d_cli.methods.multiview.given import given_views, show_given, write_given
        from kiss3d_cli.methods.multiview.prior_shape import shape_of
        from kiss3d_cli.models.prior.weights import load

        cameras = bundle_cameras(settings.radius)
        context.progress(0.0, "reading the prior's weights")
        loaded = load(None if settings.weights is None else Path(settings.weights))
        given = given_views(context)
        if given is not None:

            def guess(front: Float[torch.Tensor, "S S 4"]) -> tuple[Mesh, float]:
                mesh = shape_of(loaded.network, to_bytes(front), cameras[[0]]).mesh
                return shrink_into_views(mesh, cameras), 1 / max(1.0, overhang(mesh, cameras))

            context.progress(0.1, "carving the silhouettes")
            write_given(context, show_given(given, cameras, settings.tile, guess), given)
            context.facts["weights"] = loaded.sha256
            return
        context.progress(0.1, "guessing the shape")
        shape = shape_of(loaded.network, read_png(context.inputs["preprocess/image_rgba.png"]), cameras[[0]])
        mesh = shrink_into_views(shape.mesh, cameras)
        context.progress(0.7, "rendering four views")
        colors = to_bytes(render_colors(mesh, cameras, (settings.tile, settings.tile), antialiased=False).colors)
        write_views(context.output, dict(zip(VIEW_NAMES, colors, strict=True)))
        write_mesh(context.output / "surface.ply", mesh)
        context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces), weights=loaded.sha256)
        context.facts["confidence"] = round(shape.confidence, 4)
