"""Transfer of colours and normals from one mesh to another of nearly the same shape, by baking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh, face_normals, vertex_normals
from kiss3d_cli.geometry.rasterize import interpolate, rasterize
from kiss3d_cli.geometry.texture.charts import Atlas
from kiss3d_cli.geometry.texture.gutter import with_gutters
from kiss3d_cli.geometry.texture.tangents import tangents
from kiss3d_cli.geometry.texture.texture import Texture, sampled

_TEXELS_AT_ONCE = 1 << 17
_CANDIDATES = 6
"""Faces by whose middles the nearest point is looked for: on even meshes, that of a point lies in one of four."""
_BLOCK = 2
"""Texels a side that share their candidates; charts are further apart."""


@dataclass(frozen=True)
class Baked:
    """
    Attributes:
        texture: the colours; None if the first mesh has none.
        normal_map: of the first mesh's smooth normals, in glTF's tangent space, green upwards.
    """

    texture: Texture | None
    normal_map: UInt8[Tensor, "H W 3"]


@dataclass(frozen=True)
class Texels:
    """The T texels of a square picture that an atlas covers, on the mesh.

    Attributes:
        inside: (S, S) which they are.
        places, normals: (T, 3) where they lie, and the mesh's smooth unit normals there.
        tangents: (T, 4) interpolated likewise.
    """

    inside: Bool[np.ndarray, "S S"]
    places: Float[Tensor, "T 3"]
    normals: Float[Tensor, "T 3"]
    tangents: Float[Tensor, "T 4"]

    def blocks(self) -> tuple[Int[Tensor, " T"], Float[Tensor, "B 3"]]:
        """The block of every texel, and the middle of every block."""
        row, column = np.nonzero(self.inside)
        key = row // _BLOCK * len(self.inside) + column // _BLOCK
        _, block = np.unique(key, return_inverse=True)
        number = torch.from_numpy(block.reshape(-1))
        count = torch.bincount(number)
        total = torch.zeros(len(count), 3).index_add(0, number, self.places.float())
        return number, total / count[:, None]

    def spread(self, values: Float[Tensor, "T C"]) -> Float[Tensor, "S S C"]:
        """A picture of the texels' values; around the charts the nearest is repeated, so that no seam shows."""
        size = len(self.inside)
        row, column = distance_transform_edt(~self.inside, return_distances=False, return_indices=True)
        number = np.full(self.inside.shape, -1)
        number[self.inside] = np.arange(int(self.inside.sum()))
        return values[torch.from_numpy(number[row, column].reshape(-1))].reshape(size, size, -1)


def texels_of(mesh: Mesh, atlas: Atlas, size: int) -> Texels:
    """
    Args:
        mesh: on the CPU, the one that was unwrapped.
        size: pixels a side.

    Raises:
        BadInput: no face covers the middle of a texel.
    """
    flat = torch.cat([atlas.uv * 2 - 1, torch.zeros_like(atlas.uv)], 1)
    flat[:, 1] *= -1
    flat[:, 3] = 1  # the atlas is a picture like any other: w = 1 everywhere
    fragments = rasterize(flat[None], atlas.corners, (size, size))
    inside = fragments.mask[0]
    if not bool(inside.any()):
        raise BadInput("no face of the mesh is large enough for the texture", hint="ask for a larger texture")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    found = interpolate(torch.cat([mesh.vertices, normals], 1), mesh.faces, fragments)[0][inside]
    # corners of the atlas are the vertices that a file has: split at seams
    vertex = torch.empty(len(atlas.uv), dtype=torch.int64)
    vertex[atlas.corners.reshape(-1)] = mesh.faces.reshape(-1)
    along = tangents(
        mesh.vertices[vertex].double().numpy(),
        normals[vertex].double().numpy(),
        atlas.uv.double().numpy(),
        atlas.corners.numpy(),
    )
    ways = interpolate(torch.from_numpy(along).float(), atlas.corners, fragments)[0][inside]
    return Texels(inside.numpy(), found[:, :3], torch.nn.functional.normalize(found[:, 3:], dim=1), ways)


def transfer(full: Mesh, painted: Texture | None, low: Mesh, atlas: Atlas, size: int) -> Baked:
    """Bake one mesh's paint and normals onto another.

    Each texel takes what the first mesh has at the nearest point that faces the same way (Cignoni et al. 1998, "A
    general method for preserving attribute values on simplified meshes").

    Args:
        full: with colours where `painted` is None, if it has any.
        low: the mesh that `atlas` lays out.
        size: pixels a side.

    Raises:
        BadInput: no face of `low` is large enough.
    """
    texels = texels_of(low, atlas, size)
    nearest = _Nearest(full)
    normals = vertex_normals(full.vertices, full.faces)
    colors, reliefs = [], []
    block, middles = texels.blocks()
    candidates = nearest.around(middles)
    for start in range(0, len(texels.places), _TEXELS_AT_ONCE):
        part = slice(start, start + _TEXELS_AT_ONCE)
        face, weights = nearest.find(texels.places[part], texels.normals[part], candidates[block[part]])
        if painted is not None:
            uv = (painted.uv[painted.corners[face]] * weights[..., None]).sum(1)
            colors.append(sampled(painted.image, uv))
        elif full.colors is not None:
            colors.append((full.colors[full.faces[face]] * weights[..., None]).sum(1).float())
        normal = torch.nn.functional.normalize((normals[full.faces[face]] * weights[..., None]).sum(1), dim=1)
        reliefs.append(in_tangent_space(normal, texels.normals[part], texels.tangents[part]))
    relief = normal_map_of(texels, torch.cat(reliefs))
    if not colors:
        return Baked(None, relief)
    picture = _bytes(texels.spread(torch.cat(colors))).numpy()
    filled = with_gutters(picture, texels.inside, low, atlas)
    return Baked(Texture(atlas.uv, atlas.corners, torch.from_numpy(filled)), relief)


class _Nearest:
    """The faces of a mesh, to be asked for the nearest point."""

    def __init__(self, mesh: Mesh) -> None:
        self._corners = mesh.vertices[mesh.faces].float()
        self._normals = torch.nn.functional.normalize(face_normals(mesh.vertices, mesh.faces), dim=1).float()
        self._tree = cKDTree(self._corners.mean(1).numpy())
        self._count = min(_CANDIDATES, len(mesh.faces))

    def around(self, points: Float[Tensor, "B 3"]) -> Int[Tensor, "B K"]:
        """Faces near every point."""
        _, index = self._tree.query(points.numpy(), k=[*range(1, self._count + 1)], workers=-1)
        return torch.from_numpy(index.astype(np.int64))

    def find(
        self, points: Float[Tensor, "T 3"], normals: Float[Tensor, "T 3"], candidates: Int[Tensor, "T K"]
    ) -> tuple[Int[Tensor, " T"], Float[Tensor, "T 3"]]:
        """The face of every point and its barycentric coordinates there; faces turned away come last."""
        best = torch.full((len(points),), torch.inf)
        face, weights = candidates[:, 0].clone(), points.new_zeros(len(points), 3)
        for column in candidates.T:
            found = barycentric_of_nearest(self._corners[column], points)
            distance = ((self._corners[column] * found[..., None]).sum(1) - points).square().sum(1)
            away = (self._normals[column] * normals).sum(1) < 0
            distance = torch.where(away, distance + 1e6, distance)
            nearer = distance < best
            best = torch.where(nearer, distance, best)
            face = torch.where(nearer, column, face)
            weights = torch.where(nearer[:, None], found, weights)
        return face, weights


def barycentric_of_nearest(triangles: Float[Tensor, "T 3 3"], points: Float[Tensor, "T 3"]) -> Float[Tensor, "T 3"]:
    """Of each triangle's point that is nearest to a point (Ericson 2005, "Real-time collision detection", 5.1.5)."""
    a, b, c = triangles.unbind(1)
    ab, ac, bc = b - a, c - a, c - b
    ap = points - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    area = (d00 * d11 - d01 * d01).clamp_min(1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inner = torch.stack([1 - v - w, v, w], 1)
    best, least = inner, torch.where((inner >= 0).all(1), 0.0, torch.inf)
    outside = ~(inner >= 0).all(1)
    for start, along, (first, second) in ((a, ab, (0, 1)), (a, ac, (0, 2)), (b, bc, (1, 2))):
        share = (((points - start) * along).sum(1) / (along * along).sum(1).clamp_min(1e-30)).clamp(0, 1)
        distance = (start + share[:, None] * along - points).square().sum(1)
        edge = torch.zeros_like(inner)
        edge[:, first], edge[:, second] = 1 - share, share
        nearer = outside & (distance < least)
        least = torch.where(nearer, distance, least)
        best = torch.where(nearer[:, None], edge, best)
    return best


def normal_map_of(texels: Texels, normals: Float[Tensor, "T 3"]) -> UInt8[Tensor, "S S 3"]:
    """The picture of unit vectors in tangent space."""
    return _bytes((texels.spread(normals) + 1) / 2)


def in_tangent_space(
    normal: Float[Tensor, "T 3"], up: Float[Tensor, "T 3"], tangent: Float[Tensor, "T 4"]
) -> Float[Tensor, "T 3"]:
    """A unit vector by the axes that a renderer makes of the interpolated normal and tangent (glTF 2.0, 3.9.3)."""
    found = torch.stack([(normal * axis).sum(1) for axis in _axes(up, tangent)], 1)
    found[:, 2] = found[:, 2].clamp_min(0.05)  # what looks inwards can't be shown
    return torch.nn.functional.normalize(found, dim=1)


def from_tangent_space(
    vector: Float[Tensor, "T 3"], up: Float[Tensor, "T 3"], tangent: Float[Tensor, "T 4"]
) -> Float[Tensor, "T 3"]:
    """The inverse: a vector of those axes, as a unit vector of the mesh's frame."""
    found = sum(vector[:, i, None] * axis for i, axis in enumerate(_axes(up, tangent)))
    return torch.nn.functional.normalize(torch.as_tensor(found), dim=1)


def _axes(
    up: Float[Tensor, "T 3"], tangent: Float[Tensor, "T 4"]
) -> tuple[Float[Tensor, "T 3"], Float[Tensor, "T 3"], Float[Tensor, "T 3"]]:
    along = torch.nn.functional.normalize(tangent[:, :3] - (tangent[:, :3] * up).sum(1, keepdim=True) * up, dim=1)
    across = torch.linalg.cross(up, along, dim=1) * torch.where(tangent[:, 3:] < 0, -1.0, 1.0)
    return along, across, up


def _bytes(picture: Float[Tensor, "S S 3"]) -> UInt8[Tensor, "S S 3"]:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
