"""Simplification with baking: the detail of the full mesh becomes textures of the simplified one."""

from __future__ import annotations

from dataclasses import replace

import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.model import Model, used_box, welded
from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.texture.charts import unwrap
from kiss3d_cli.geometry.texture.transfer import transfer

_HALF = 1.05
"""Half of the longest side of the box for which the charts' cameras are placed: the world's."""
_MOST = 4096
_LEAST = 1024
"""Pixels a side of a texture that is baked, where more may be asked for: the normal map may be finer than the paint."""


def simplified(model: Model, faces: int, texture: int) -> Model:
    """At most so many faces, with a texture and a normal map baked from the full mesh.

    A mesh with no more faces comes back as it is, one without colours without a texture: nothing is to be kept then
    but the shape.

    Args:
        texture: pixels a side.
    """
    if len(model.mesh.faces) <= faces:
        return model
    low = decimate(welded(model.mesh), faces)
    if model.texture is None and model.mesh.colors is None:
        return replace(model, mesh=low)
    return rebaked(model, low, texture)


def rebaked(model: Model, low: Mesh, texture: int) -> Model:
    """Another mesh of nearly the same shape, with what the model shows."""
    if model.texture is not None:
        texture = min(texture, max(_LEAST, _power_of_two(max(model.texture.image.shape[:2]))))
    boxed = _boxed(model.mesh, model.mesh)
    simple = _boxed(low, model.mesh)
    while True:  # a mesh of very many pieces has no room in a small texture: it is made smaller later
        try:
            atlas = unwrap(simple, bundle_cameras(BUNDLE_RADIUS), texture)
            break
        except BadInput:
            if texture >= _MOST:
                raise
            texture *= 2
    baked = transfer(boxed.with_colors(model.mesh.colors), model.texture, simple, atlas, texture)
    if baked.texture is None:
        raise BadInput("the mesh has no colours to bake", hint="export it without a texture")
    return replace(model, mesh=low, texture=baked.texture, normal_map=baked.normal_map)


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def _boxed(mesh: Mesh, like: Mesh) -> Mesh:
    """Moved and scaled as brings `like` into the world's box, for which charts and thresholds are made."""
    low, high = used_box(like)
    scale = 2 * _HALF / max(float((high - low).max()), 1e-30)
    moved = (mesh.vertices.double() - (low + high) / 2) * scale
    return Mesh(moved.to(torch.float32), mesh.faces, mesh.colors)
