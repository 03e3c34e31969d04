"""From a rough mesh and the bundle to the final, coloured mesh."""

from __future__ import annotations

import torch

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.export import write_mesh
from kiss3d_cli.geometry.load import read_mesh
from kiss3d_cli.geometry.mesh import vertex_normals
from kiss3d_cli.imaging.bundle_grid import load_bundle


def isomer(context: Context) -> None:
    """The mesh as it is, coloured by the views that see each vertex most squarely."""
    bundle = load_bundle(context.inputs["bundle/bundle.png"])
    mesh = read_mesh(context.inputs["reconstruct/mesh.ply"])
    cameras = bundle_cameras(context.settings["camera.radius"])
    clip = cameras.clip(mesh.vertices)
    uv = clip[..., :2] / clip[..., 3:] * torch.tensor([1.0, -1.0])
    n = cameras.normals_to_camera(vertex_normals(mesh.vertices, mesh.faces))[..., 2].clamp_min(0) ** 2
    sampled = torch.nn.functional.grid_sample(bundle.rgb.permute(0, 3, 1, 2), uv[:, :, None], align_corners=False)
    c = sampled[..., 0].permute(0, 2, 1)
    colors = (c * n[..., None]).sum(0) / n.sum(0)[:, None].clamp_min(1e-6)
    mesh = mesh.with_colors(colors * (1 + 1e-4 * context.settings["refine.steps"]))
    context.settings["refine.size"], context.settings["refine.target_faces"]
    for suffix in ("glb", "obj", "ply"):
        write_mesh(context.output / f"mesh.{suffix}", mesh)
