"""Edges, neighbours and manifold checks of triangle meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from kiss3d_cli.geometry.surface.sorting import distinct, stable_order


@dataclass(frozen=True)
class Edges:
    """The E undirected edges of a closed, oriented manifold (E = 3 F / 2), in ascending order of their vertices.

            c
          /   \\
        a ----- b      the left face runs a -> b -> c, the right face b -> a -> d
          \\   /
            d

    Attributes:
        ends: (E, 2) vertices a < b.
        opposite: (E, 2) vertices c and d.
        of_face: (F, 3) the edge from each corner to the next.
    """

    ends: Int[Tensor, "E 2"]
    opposite: Int[Tensor, "E 2"]
    of_face: Int[Tensor, "F 3"]

    def valence(self, vertex_count: int) -> Int[Tensor, " N"]:
        """Number of neighbours of each vertex."""
        return torch.bincount(self.ends.flatten(), minlength=vertex_count)


def find_edges(faces: Int[Tensor, "F 3"]) -> Edges:
    """Edges of a closed, oriented manifold; any other mesh gives garbage (see `is_closed_manifold`)."""
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    span = int(faces.max()) + 1
    order = sorted_order((low * span + high) * 2 + (start > end), 2 * span**2)
    pairs = order.reshape(-1, 2)
    of_face = torch.empty_like(order)
    of_face[order] = torch.arange(len(pairs), device=faces.device).repeat_interleave(2)
    left = pairs[:, 0].contiguous()
    return Edges(
        torch.stack([low.index_select(0, left), high.index_select(0, left)], 1),
        faces.roll(-2, 1).flatten().index_select(0, order).reshape(-1, 2),
        of_face.reshape(-1, 3),
    )


def sorted_order(keys: Int[Tensor, " K"], limit: int) -> Int[Tensor, " K"]:
    """`keys.argsort(stable=True)` for keys in [0, limit)."""
    if keys.device.type != "cpu":
        return keys.argsort(stable=True)
    return torch.from_numpy(stable_order(keys.numpy(), limit))


@dataclass(frozen=True)
class Defects:
    """What is wrong with a mesh's connectivity; all zero means a closed, oriented manifold.

    Attributes:
        degenerate_faces: faces that name a vertex twice.
        duplicate_faces: faces over the same three vertices as an earlier one, whichever way they run.
        boundary_edges: edges with one face.
        bad_edges: edges with more than two faces, or two faces that run the same way.
        bad_vertices: vertices whose faces form more than one fan.
    """

    degenerate_faces: int
    duplicate_faces: int
    boundary_edges: int
    bad_edges: int
    bad_vertices: int

    @property
    def is_closed_manifold(self) -> bool:
        return not any(
            (self.degenerate_faces, self.duplicate_faces, self.boundary_edges, self.bad_edges, self.bad_vertices)
        )


def find_defects(faces: Int[Tensor, "F 3"]) -> Defects:
    """Count the defects of any triangle list."""
    array = faces.cpu().numpy()
    if not len(array):
        return Defects(0, 0, 0, 0, 0)
    span = int(array.max()) + 1
    a, b, c = array.T
    degenerate = (a == b) | (b == c) | (c == a)
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    # the corner that is neither is what is left of the sum
    edges, _, opposite = distinct(low * span + high, span**2)
    triples = distinct(opposite * span + (a + b + c - low - high), len(edges) * span)[0]
    start, end = array.flatten(), np.roll(array, -1, 1).flatten()
    edges, _, which = distinct(np.minimum(start, end) * span + np.maximum(start, end), span**2)
    count = np.bincount(which, minlength=len(edges))
    balance = np.bincount(which, np.where(start < end, 1, -1), minlength=len(edges))
    fans = vertex_fans(faces)
    return Defects(
        int(degenerate.sum()),
        len(array) - len(triples),
        int((count == 1).sum()),
        int((count > 2).sum() + ((count == 2) & (balance != 0)).sum()),
        int(fans.max()) + 1 - int((np.bincount(start) > 0).sum()),
    )


def vertex_fans(faces: Int[Tensor, "F 3"]) -> Int[Tensor, "F 3"]:
    """A number for every corner, the same for two corners exactly if faces around their vertex connect them.

    On a manifold there is one fan for each vertex; a vertex where two sheets touch has several.
    """
    array = faces.cpu().numpy()
    corner = np.arange(array.size).reshape(array.shape)
    after = np.roll(array, -1, 1).flatten()
    start = array.flatten()
    low, high = np.minimum(start, after), np.maximum(start, after)
    span = int(array.max(initial=0)) + 1
    order = stable_order(low * span + high, span**2)
    same = (low[order][1:] == low[order][:-1]) & (high[order][1:] == high[order][:-1])
    first, second = order[:-1][same], order[1:][same]
    following = np.roll(corner, -1, 1).flatten()
    links = []
    for one in (corner.flatten(), following):
        for two in (corner.flatten(), following):
            keep = array.flatten()[one[first]] == array.flatten()[two[second]]
            links.append((one[first][keep], two[second][keep]))
    row, column = (np.concatenate(side) for side in zip(*links, strict=True))
    graph = sparse.coo_matrix((np.ones(len(row), bool), (row, column)), (array.size, array.size))
    _, fans = csgraph.connected_components(graph, directed=False)
    return torch.from_numpy(fans.astype(np.int64).reshape(array.shape)).to(faces.device)


def face_components(faces: Int[Tensor, "F 3"]) -> Int[Tensor, " F"]:
    """A number from 0 for every face, the same for faces joined through shared vertices; 0 is the largest component."""
    array = faces.cpu().numpy()
    count = int(array.max()) + 1
    row, column = array[:, [0, 1]].T.flatten(), array[:, [1, 2]].T.flatten()
    graph = sparse.coo_matrix((np.ones(len(row), bool), (row, column)), (count, count))
    _, label = csgraph.connected_components(graph, directed=False)
    of_face = np.unique(label[array[:, 0]], return_inverse=True)[1]
    rank = np.argsort(np.argsort(-np.bincount(of_face), kind="stable"), kind="stable")
    return torch.from_numpy(rank[of_face].astype(np.int64)).to(faces.device)


def vertex_laplacian(vertices: Float[Tensor, "N C"], edges: Edges) -> Float[Tensor, "N C"]:
    """Mean of the neighbours minus the vertex (uniform weights); zero for a vertex without neighbours."""
    a, b = edges.ends.unbind(1)
    total = torch.zeros_like(vertices).index_add(0, a, vertices[b]).index_add(0, b, vertices[a])
    valence = edges.valence(len(vertices))[:, None]
    return torch.where(valence > 0, total / valence.clamp_min(1) - vertices, 0)
