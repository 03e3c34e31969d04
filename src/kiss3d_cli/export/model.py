"""What is exported: a mesh with what is painted on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.photograph import RunPicture
from kiss3d_cli.export.relief import RunNormals
from kiss3d_cli.export.targets import Axis, Origin
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture


@dataclass(frozen=True)
class Model:
    """
    Attributes:
        mesh: y up, front +z; a vertex on a seam of the texture is there once, one where colours jump several times.
        texture: None where the mesh has colours of its vertices, or none.
        normal_map: in the texture's coordinates; None without one.
        roughness: 1 is a matt surface.
        origin: the picture of the run that it comes from, in whose world it lies; None of a mesh from elsewhere.
        bundle: that run's pictures of normals; None of a mesh from elsewhere.
    """

    mesh: Mesh
    texture: Texture | None = None
    normal_map: UInt8[Tensor, "H W 3"] | None = None
    roughness: float = 1.0
    origin: RunPicture | None = None
    bundle: RunNormals | None = None

    def with_mesh(self, mesh: Mesh) -> Model:
        """Other vertices; the faces are the same."""
        return replace(self, mesh=mesh)


def welded(mesh: Mesh) -> Mesh:
    """The shape alone: one vertex for every position, as many faces in the same order."""
    vertices, index = mesh.vertices.unique(dim=0, return_inverse=True)
    return Mesh(vertices, index[mesh.faces])


def used_box(mesh: Mesh) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Lowest and highest coordinates of what faces use, in float64."""
    used = mesh.vertices[mesh.faces.unique()].double()
    return used.amin(0), used.amax(0)


def scale_of(mesh: Mesh, height: float | None, longest: float | None, unit: float) -> float:
    """The factor from the mesh's own units, taken as metres, to those of the file.

    Args:
        mesh: y up.
        height: metres that are wanted from the lowest to the highest point.
        longest: metres that are wanted of the longest side, where no height is.
        unit: metres in a unit of the file.

    Raises:
        BadInput: the mesh has no height, or no extent.
    """
    low, high = used_box(mesh)
    extent = float((high - low).max())
    if not extent > 0:
        raise BadInput("the mesh has no extent", hint="give a mesh with a surface")
    if height is not None:
        own = float(high[1] - low[1])
        if own <= 1e-6 * extent:
            raise BadInput("the mesh lies flat: it has no height", place="--height", hint="leave --height out")
        return height / own / unit
    return (1.0 if longest is None else longest / extent) / unit


def placed(mesh: Mesh, up: Axis, origin: Origin, scale: float, like: Mesh | None = None) -> Mesh:
    """The mesh with that axis up, at that place, so many times as large.

    Args:
        mesh: y up, front +z.
        up: with z upwards, the front looks along -y, as in Blender.
        origin: of the new frame, in the object.
        like: the mesh whose box says where that is; its own by default.
    """
    low, high = used_box(mesh if like is None else like)
    anchor = (low + high) / 2
    if origin == "floor":
        anchor[1] = low[1]
    moved = (mesh.vertices.double() - anchor) * scale
    return mesh.with_vertices(turned(moved, up).to(mesh.vertices.dtype))


def turned(points: Float[Tensor, "N 3"], up: Axis) -> Float[Tensor, "N 3"]:
    """From y up and front +z to that axis up."""
    return points if up == "y" else torch.stack([points[:, 0], -points[:, 2], points[:, 1]], 1)


def arrays(mesh: Mesh) -> tuple[Float[np.ndarray, "N 3"], np.ndarray]:
    """Vertices in float64, and faces."""
    return mesh.vertices.double().numpy(), mesh.faces.numpy()
