"""Renderings of a mesh from several sides, on a transparent background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras, orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import RenderedColors, render_colors, render_normals, render_texture
from kiss3d_cli.image.views import to_bytes
from kiss3d_cli.report.run_view import RunView
from kiss3d_cli.report.shape import Shape, read_shape

_LEAST_MASK = 1 / 512
"""Below it a pixel is drawn as nothing at all."""


def draw_colors(shape: Shape, cameras: Cameras, size: int) -> UInt8[np.ndarray, "V H W 4"] | None:
    """The texture or the vertex colours; None if the mesh has neither."""
    if shape.texture is not None:
        return _on_nothing(render_texture(shape.mesh, shape.texture, cameras, (size, size), background=0))
    if shape.mesh.colors is not None:
        return _on_nothing(render_colors(shape.mesh, cameras, (size, size), background=0))
    return None


def draw_run(run: RunView, azimuths: Sequence[float], elevation: float, size: int) -> UInt8[np.ndarray, "H W 4"]:
    """The most finished mesh of a run from several sides, side by side: in its colours, or its normals without any.

    Args:
        azimuths: degrees; 0 is the front.
        elevation: degrees.
        size: pixels along the side of each view.

    Raises:
        BadInput, OutOfMemory: the run has no mesh yet, or it can't be read.
    """
    shape = read_shape(run)
    if shape is None:
        raise BadInput("this run has no mesh yet", place=str(run.folder.path), hint="resume it first")
    cameras = orbit_cameras(azimuths, elevation, run.record.config["camera.radius"])
    drawn = draw_colors(shape, cameras, size)
    return np.concatenate(draw_normals(shape.mesh, cameras, size) if drawn is None else drawn, axis=1)


def draw_vertex_colors(
    mesh: Mesh, colors: Float[np.ndarray, "N 3"], cameras: Cameras, size: int
) -> UInt8[np.ndarray, "V H W 4"]:
    """The mesh in other colours, shaded a little by a lamp at the camera so that its form shows."""
    painted = mesh.with_colors(torch.from_numpy(colors).to(mesh.vertices))
    rendered = render_colors(painted, cameras, (size, size), background=0)
    light = 0.55 + 0.45 * render_normals(mesh, cameras, (size, size)).normals[..., 2:].abs()
    return _on_nothing(RenderedColors(rendered.colors * light, rendered.mask, rendered.fragments))


def draw_normals(mesh: Mesh, cameras: Cameras, size: int) -> UInt8[np.ndarray, "V H W 4"]:
    """Camera-space normals, encoded as in the bundle (docs/conventions.md)."""
    rendered = render_normals(mesh, cameras, (size, size))
    unit = torch.nn.functional.normalize(rendered.normals, dim=-1, eps=1e-12)
    encoded = (unit * torch.tensor([-1.0, 1.0, 1.0], device=unit.device) + 1) / 2
    return _with_alpha(encoded, rendered.mask)


def _on_nothing(rendered: RenderedColors) -> UInt8[np.ndarray, "V H W 4"]:
    """From a picture on black to one with alpha."""
    return _with_alpha(rendered.colors / rendered.mask.clamp_min(_LEAST_MASK)[..., None], rendered.mask)


def _with_alpha(colors: Float[Tensor, "V H W 3"], mask: Float[Tensor, "V H W"]) -> UInt8[np.ndarray, "V H W 4"]:
    seen = (mask > _LEAST_MASK)[..., None]
    alpha = torch.where(seen, mask[..., None], 0).mul(255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([to_bytes(torch.where(seen, colors, 0)), alpha], -1)
