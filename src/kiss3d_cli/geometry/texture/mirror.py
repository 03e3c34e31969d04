"""Pictures of one side as pictures of the other, for an object that is its own mirror image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize

from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.materials import lab
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.project import Photographs, Projector

EXACT, LOOSE = 0.02, 0.06
"""Shares of the object's longest side: how far a mirror image may lie off the surface to count in full, and at all."""
TURNED, FACING = 0.5, 0.8
"""Cosines between a normal's mirror image and the surface's, at which a place begins to count and counts in full."""
SYMMETRIC = 0.6
"""Share of the surface that must have a mirror image for the object to be taken for symmetric."""
SAME = 12.0
"""Difference (CIE 1976) of the colours that pictures show on both sides, in the median, from which they have different
ones."""
APART = 0.87
"""Cosine between the directions of two cameras that see much the same."""
WEIGHT = 0.2
"""Of a mirrored picture, against the one that it is of: where that shows a place it counts more."""
_SURE, _ENOUGH = 0.5, 0.01
"""Trust and match of places that are compared, and the share of the surface that they must be."""
_SAMPLES, _OFFSETS = 800, 13
_SPAN = 0.06
"""Of the planes that are tried, about the middle of the object's box: share of its longest side."""


@dataclass(frozen=True)
class Mirror:
    """
    Attributes:
        x: of the plane, which is upright and looks to the right.
        match: (N,) from 0 for vertices without a mirror image on the surface to 1.
        nearest: (N,) the vertex next to each vertex's mirror image.
    """

    x: float
    match: Float[Tensor, " N"]
    nearest: Int[Tensor, " N"]


def with_mirror_images(mesh: Mesh, photographs: Photographs) -> Photographs:
    """Photographs, and the mirror images of those from whose mirrored place none was taken.

    They are added where the mesh has an upright plane of symmetry x = constant, and the photographs show colours on
    both sides of it that are alike; else nothing is.

    Args:
        photographs: of the mesh.
    """
    way = normalize(photographs.cameras.centers, dim=1)
    turned = way * way.new_tensor([-1, 1, 1])
    new = ((turned @ way.T).amax(1) < APART).nonzero()[:, 0].tolist()
    if not new:
        return photographs
    projector = Projector(mesh, photographs)
    mirror = find_mirror(mesh.vertices, projector.normals)
    if mirror is None or not _alike(projector, mirror):
        return photographs
    cameras, seen = photographs.cameras, photographs.cameras[new]
    back = torch.diag(seen.projection.new_tensor([-1, 1, 1, 1]))
    reflection = back.clone()
    reflection[0, 3] = 2 * mirror.x
    # the world is reflected before a camera sees it, and its picture turned over after
    world, projection = back @ seen.world_to_camera @ reflection, back @ seen.projection @ back
    return replace(
        photographs,
        cameras=Cameras(torch.cat([cameras.world_to_camera, world]), torch.cat([cameras.projection, projection])),
        images=torch.cat([photographs.images, photographs.images[new].flip(2)]),
        masks=torch.cat([photographs.masks, photographs.masks[new].flip(2)]),
        weights=torch.cat([photographs.weights, WEIGHT * photographs.weights[new]]),
    )


def _alike(projector: Projector, mirror: Mirror) -> bool:
    """Whether what is seen on both sides has the same colours."""
    seen = projector.at_vertices
    sure = (seen.trust > _SURE) & (seen.trust[mirror.nearest] > _SURE) & (mirror.match > _SURE)
    if float(sure.float().mean()) < _ENOUGH:
        return False
    one, other = seen.colors[sure], seen.colors[mirror.nearest[sure]]
    away = np.linalg.norm(lab(one.cpu().double().numpy()) - lab(other.cpu().double().numpy()), axis=1)
    return float(np.median(away)) < SAME


def find_mirror(vertices: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]) -> Mirror | None:
    """The plane x = constant about which most of a surface is its own mirror image; None if there is none.

    Args:
        normals: unit vectors.
    """
    points, ways = vertices.detach().cpu().double().numpy(), normals.detach().cpu().double().numpy()
    if len(points) < 4:
        return None
    tree = cKDTree(points)
    low, high = points.min(0), points.max(0)
    size = float((high - low).max())
    some = np.linspace(0, len(points) - 1, min(_SAMPLES, len(points))).astype(np.int64)
    planes = (low[0] + high[0]) / 2 + np.linspace(-_SPAN, _SPAN, _OFFSETS) * size
    scores = [_matches(tree, points, ways, some, x, size)[0].mean() for x in planes]
    best = int(np.argmax(scores))
    if scores[best] < SYMMETRIC:
        return None
    match, nearest = _matches(tree, points, ways, np.arange(len(points)), planes[best], size)
    return Mirror(
        float(planes[best]), torch.from_numpy(match).to(vertices), torch.from_numpy(nearest).to(vertices.device)
    )


def _matches(
    tree: cKDTree,
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    which: Int[np.ndarray, " P"],
    x: float,
    size: float,
) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """How well the mirror image of each vertex lies on the surface, and the vertex next to it."""
    away, nearest = tree.query(points[which] * [-1, 1, 1] + [2 * x, 0, 0])
    turn = (normals[which] * [-1, 1, 1] * normals[nearest]).sum(1)
    near = (LOOSE * size - away) / ((LOOSE - EXACT) * size)
    return np.clip(near, 0, 1) * np.clip((turn - TURNED) / (FACING - TURNED), 0, 1), np.asarray(nearest)
