"""The reference bundle: the views' colours over the normals of a first mesh."""

from __future__ import annotations

import shutil

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.bundle import Bundle, join_bundle
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.views import VIEW_NAMES, read_views


def surface(context: Context) -> None:
    """The normals of the surface that the views were rendered from."""
    rgb = read_views({name: context.inputs[f"multiview/{name}.png"] for name in VIEW_NAMES})
    mesh = read_mesh(context.inputs["multiview/surface.ply"])
    context.progress(0.3, "rendering normals")
    rendered = render_normals(mesh, bundle_cameras(context.settings["camera.radius"]), (rgb.shape[1], rgb.shape[2]))
    write_png(context.output / "reference_bundle.png", join_bundle(Bundle(rgb, rendered.normals, rendered.mask > 0.5)))
    shutil.copyfile(context.inputs["multiview/surface.ply"], context.output / "mesh.ply")
