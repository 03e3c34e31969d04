"""From the framed picture to four views of the object."""

from __future__ import annotations

import torch

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.export import write_mesh
from kiss3d_cli.geometry.inflate import inflate as inflate_silhouette
from kiss3d_cli.geometry.inflate import shrink_into_views
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.imaging.png import read_png
from kiss3d_cli.imaging.views import VIEW_NAMES, to_bytes, write_views


def inflate(context: Context) -> None:
    """The silhouette inflated to a surface, seen from four sides."""
    rgba = torch.from_numpy(read_png(context.inputs["preprocess/image_rgba.png"]).copy()).float() / 255
    cameras = bundle_cameras(context.settings["camera.radius"])
    context.progress(0.1, "inflating the silhouette")
    mesh = inflate_silhouette(rgba[..., 3], rgba[..., :3], cameras[[0]], depth=context.settings["multiview.depth"])
    mesh = shrink_into_views(mesh, cameras)
    context.progress(0.7, "rendering four views")
    tile = context.settings["multiview.tile"]
    colors = to_bytes(render_colors(mesh, cameras, (tile, tile)).colors)
    write_views(context.output, dict(zip(VIEW_NAMES, colors, strict=True)))
    write_mesh(context.output / "surface.ply", mesh)
    context.facts.update(vertices=len(mesh.vertices), faces=len(mesh.faces))
