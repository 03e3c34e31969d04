"""The edges at which a mesh ends or turns away from the camera, found from the mesh and not from the pixels.

A pixel shows one face, and the faces beside a silhouette are seen edge-on: at 100,000 faces hardly any of them covers a
pixel centre, so a silhouette looked for among the faces that pixels show is mostly missed. In the mesh it can't be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kiss3d_cli.geometry.surface import manifold


@dataclass(frozen=True)
class Edges:
    """The edges of a mesh; any number of faces may meet in one.

    Attributes:
        ends: (E, 2) vertices, the lower number first.
        of_side: (3 * F,) the edge of every face side: all sides from corner 0 to 1, all from 1 to 2, all from 2 to 0.
        direction: (3 * F,) int8, 1 where the face runs along the edge from its first end to its second, else -1.
    """

    ends: Int[Tensor, "E 2"]
    of_side: Int[Tensor, " S"]
    direction: Int[Tensor, " S"]

    @staticmethod
    def of_manifold(edges: manifold.Edges, faces: Int[Tensor, "F 3"]) -> Edges:
        """From edges already found: the same as `mesh_edges(faces)`, without sorting them again."""
        direction = (faces < faces.roll(-1, 1)).to(torch.int8) * 2 - 1
        return Edges(edges.ends, edges.of_face.T.reshape(-1), direction.T.reshape(-1))


def mesh_edges(faces: Int[Tensor, "F 3"]) -> Edges:
    """Finds the edges; needed anew only when the faces change."""
    faces = faces.long()
    tail = faces.T.reshape(-1)
    head = faces[:, [1, 2, 0]].T.reshape(-1)
    count = int(faces.amax()) + 1 if faces.numel() else 1
    keys, of_side = torch.unique(torch.minimum(tail, head) * count + torch.maximum(tail, head), return_inverse=True)
    ends = torch.stack([keys.div(count, rounding_mode="floor"), keys % count], 1)
    return Edges(ends, of_side, (tail < head).to(torch.int8) * 2 - 1)


@dataclass(frozen=True)
class Silhouette:
    """Edges whose faces all lie on one side of them in the picture.

    Attributes:
        view: (S,) the view in which each is a silhouette.
        ends: (S, 2) its vertices.
        side: (S,) 1 if the faces lie to the left of the way from the first to the second end, -1 if to the right.
    """

    view: Int[Tensor, " S"]
    ends: Int[Tensor, "S 2"]
    side: Int[Tensor, " S"]


def silhouette_edges(clip: Float[Tensor, "V N 4"], faces: Int[Tensor, "F 3"], edges: Edges) -> Silhouette:
    """Borders, folds, and edges of three and more faces, of which none is on the other side. Not differentiable."""
    clip = clip.detach()
    corners = [corner.contiguous() for corner in faces.long().unbind(1)]
    views, numbers, sides = [], [], []
    for view, points in enumerate(clip):
        w = torch.where(points[:, 3] == 0, torch.finfo(points.dtype).tiny, points[:, 3])
        x, y, behind = points[:, 0] / w, points[:, 1] / w, w < 0
        (ax, bx, cx), (ay, by, cy) = ([values.index_select(0, corner) for corner in corners] for values in (x, y))
        # A vertex behind the camera is projected through it, which mirrors the face.
        mirrored = behind[corners[0]] ^ behind[corners[1]] ^ behind[corners[2]] if bool(behind.any()) else behind[:1]
        facing = torch.sign((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)).to(torch.int8)
        facing = torch.where(mirrored, -facing, facing)
        side = facing.repeat(3) * edges.direction
        total = torch.zeros(edges.ends.shape[0], dtype=torch.int32, device=clip.device)
        total.index_add_(0, edges.of_side, side.int())
        faced = torch.zeros_like(total).index_add_(0, edges.of_side, side.abs().int())
        found = ((total.abs() == faced) & (faced > 0)).nonzero()[:, 0]
        views.append(torch.full_like(found, view))
        numbers.append(found)
        sides.append(total.index_select(0, found).sign().long())
    number = torch.cat(numbers)
    return Silhouette(torch.cat(views), edges.ends.index_select(0, number), torch.cat(sides))
