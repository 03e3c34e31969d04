"""Four views of the silhouette inflated to a surface."""

from __future__ import annotations

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.multiview.views import SIDES_TAKEN, WRITES, Tiles
from kiss3d_cli.methods.shared import Cameras


class InflateSettings(Tiles, Cameras):
    depth: float = Field(0.95, ge=0.05, le=4)
    """Depth of the inflated silhouette relative to a surface as deep as it is wide."""


class Inflate(Weightless[InflateSettings]):
    """The silhouette inflated to a surface, seen from four sides.

    Where pictures of other sides were given, the surface that all silhouettes allow; the given views stay as they are.
    """

    stage, name, version = "multiview", "inflate", 11
    settings = InflateSettings
    reads = ("preprocess/image_rgba.png",)
    takes = SIDES_TAKEN
    writes = (*WRITES, "surface.ply")
    help = "renders the inflated silhouette"

    def cost(self, settings: InflateSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=1.5, memory=0.1 * GIB)

    def work(self, settings: InflateSettings, machine: Machine, context: Context) -> None:
        import torch
        from jaxtyping import Float

        from kiss3d_cli.core.threads import both
        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.inflate.inflate import inflate
        from kiss3d_cli.geometry.inflate.sheet_colors import SheetColors
        from kiss3d_cli.geometry.inflate.views import show_surface
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.mesh import Mesh
        from kiss3d_cli.image.png import read_png
        from kiss3d_cli.image.views import VIEW_NAMES, to_bytes, write_views
        from kiss3d_cli.methods.multiview.given import given_views, show_given, write_given

        rgba = torch.from_numpy(read_png(context.inputs["preprocess/image_rgba.png"]).copy()).float() / 255
        cameras = bundle_cameras(settings.radius)
        given = given_views(context)
        if given is not None:

            def guess(front: Float[torch.Tensor, "S S 4"]) -> tuple[Mesh, float]:
                inflated = inflate(front[..., 3], cameras[[0]], views=cameras, depth=settings.depth)
                return inflated.mesh, inflated.scale

            context.progress(0.1, "carving the silhouettes")
            write_given(context, show_given(given, cameras, settings.tile, guess), given)
            return
        context.progress(0.1, "inflating the silhouette")
        rgb, alpha = rgba[..., :3], rgba[..., 3]
        surface, colors = both(
            lambda: inflate(alpha, cameras[[0]], views=cameras, depth=settings.depth),
            lambda: SheetColors(rgb.double().numpy(), alpha.double().numpy()),
        )
        context.progress(0.6, "rendering four views")
        shown = show_surface(surface, rgb, alpha, cameras, (settings.tile, settings.tile), colors)
        write_views(context.output, dict(zip(VIEW_NAMES, to_bytes(shown.views), strict=True)))
        mesh = surface.mesh.with_colors(shown.vertices)
        write_mesh(context.output / "surface.ply", mesh)
        context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces), pieces=surface.pieces)
