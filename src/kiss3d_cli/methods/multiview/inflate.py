"""Four views of the silhouette inflated to a surface."""

from __future__ import annotations

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.multiview.views import WRITES, Tiles
from kiss3d_cli.methods.shared import Cameras


class InflateSettings(Tiles, Cameras):
    depth: float = Field(0.95, ge=0.05, le=4)
    """Thickness of the inflated silhouette, relative to a surface as deep as it is wide."""


class Inflate(Weightless[InflateSettings]):
    """The silhouette inflated to a surface, seen from four sides."""

    stage, name, version = "multiview", "inflate", 1
    settings = InflateSettings
    reads = ("preprocess/image_rgba.png",)
    writes = (*WRITES, "surface.ply")

    def work(self, settings: InflateSettings, machine: Machine, context: Context) -> None:
        import torch

        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.inflate.inflate import inflate, shrink_into_views
        from kiss3d_cli.geometry.io.export import write_mesh
        from kiss3d_cli.geometry.render import render_colors
        from kiss3d_cli.image.png import read_png
        from kiss3d_cli.image.views import VIEW_NAMES, to_bytes, write_views

        rgba = torch.from_numpy(read_png(context.inputs["preprocess/image_rgba.png"]).copy()).float() / 255
        cameras = bundle_cameras(settings.radius)
        context.progress(0.1, "inflating the silhouette")
        mesh = inflate(rgba[..., 3], rgba[..., :3], cameras[[0]], depth=settings.depth)
        mesh = shrink_into_views(mesh, cameras)
        context.progress(0.7, "rendering four views")
        colors = to_bytes(render_colors(mesh, cameras, (settings.tile, settings.tile)).colors)
        write_views(context.output, dict(zip(VIEW_NAMES, colors, strict=True)))
        write_mesh(context.output / "surface.ply", mesh)
        context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces))
