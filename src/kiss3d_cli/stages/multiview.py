"""From the framed picture to four views of the object."""

from __future__ import annotations

import torch

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate as inflate_silhouette
from kiss3d_cli.geometry.inflate.inflate import shrink_into_views
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.image.png import read_png
from kiss3d_cli.image.views import VIEW_NAMES, split_grid, to_bytes, write_views


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


def zero123plus(context: Context) -> None:
    """Four views drawn by Zero123++ with the UNet of FlexGen."""
    from kiss3d_cli.models.zero123plus.pipeline import draw_views, prepare_unet
    from kiss3d_cli.models.zero123plus.sampler import Noise

    settings, device = context.settings, context.device
    folder = context.models["zero123plus"]
    context.progress(0.0, "reading the weights")
    weights = prepare_unet(folder, context.models["flexgen"] / "flexgen.ckpt")
    seed, tile = settings["seed"], settings["multiview.tile"]
    grid = draw_views(
        folder,
        weights,
        read_png(context.inputs["preprocess/image.png"]),
        side=2 * tile,
        steps=settings["multiview.steps"],
        guidance=settings["multiview.guidance"],
        noise=Noise.seeded(seed),
        device=device.torch,
        dtype=device.half,
        on_step=lambda step, count: context.progress(
            0.1 + 0.85 * step / count, f"step {min(step + 1, count)} of {count}"
        ),
    )
    write_views(context.output, split_grid(grid.pixels))
    context.facts.update(seed=seed, scheduler=grid.scheduler, dtype=str(device.half).removeprefix("torch."))
