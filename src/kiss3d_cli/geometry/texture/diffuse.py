"""Values spread over a mesh by diffusion, in one solve."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from kiss3d_cli.geometry.surface.sorting import distinct

ACROSS, SHARPNESS = 0.01, 16
"""What an edge across a crease counts, and the power of the cosine between its ends' normals in between."""


def diffuse(
    vertices: Float[Tensor, "N 3"],
    faces: Int[Tensor, "F 3"],
    values: Float[Tensor, "N C"],
    trust: Float[Tensor, " N"],
    normals: Float[Tensor, "N 3"] | None = None,
) -> Float[Tensor, "N C"]:
    """Keeps trusted values and fills the others from their neighbours, as heat would spread until it rests.

    Minimises `sum_ij w_ij |c_i - c_j|^2 + sum_i p_i |c_i - v_i|^2` over the edges ij, with weights w of one over the
    length, which sum to d_i at a vertex, and `p = d t / (1 - t)` for the trust t: at t = 1/2 a value weighs as much as
    its neighbours together. The result has no value beyond the smallest and largest trusted one. A piece of the mesh
    without any trusted vertex, and a vertex without a face, take the mean of all trusted values.

    Args:
        values: (N, C); those of trust 0 are not looked at.
        trust: (N,) in [0, 1]; a value of trust 1 is kept as it is.
        normals: unit vectors, by which edges count less the more the surface turns along them.
    """
    count = vertices.shape[0]
    given = values.detach().cpu().double().numpy()
    t = np.clip(trust.detach().cpu().double().numpy(), 0, 1)
    if not (t > 0).any():
        return values
    mean = (given * t[:, None]).sum(0) / t.sum()
    points, corners = vertices.detach().cpu().double().numpy(), faces.cpu().numpy()
    start, end = corners.reshape(-1), np.roll(corners, -1, 1).reshape(-1)
    edges = distinct(np.minimum(start, end) * count + np.maximum(start, end), count**2)[0]
    ends = np.stack([edges // count, edges % count], 1)
    ends = ends[ends[:, 0] != ends[:, 1]]
    lengths = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    typical = np.median(lengths) if len(lengths) else 1.0
    weights = typical / np.maximum(lengths, 1e-3 * max(typical, 1e-30))
    if normals is not None:
        ways = normals.detach().cpu().double().numpy()
        turn = (ways[ends[:, 0]] * ways[ends[:, 1]]).sum(1)
        weights = weights * (ACROSS + (1 - ACROSS) * np.clip(turn, 0, 1) ** SHARPNESS)
    graph = coo_array((weights, (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    graph = graph + graph.T
    piece = connected_components(graph, directed=False)[1]
    fed = np.zeros(piece.max(initial=0) + 1, dtype=bool)
    fed[piece[t > 0]] = True
    result = np.where(t[:, None] > 0, given, mean)
    free = np.flatnonzero((t < 1) & fed[piece])
    if len(free):
        degree = np.asarray(graph.sum(1))[free]
        pull = degree * t[free] / (1 - t[free])
        known = np.setdiff1d(np.arange(count), free)
        rows = graph[free]
        matrix = diags_array(degree + pull) - rows[:, free]
        target = rows[:, known] @ result[known] + pull[:, None] * result[free]
        # Symmetric and positive definite: no pivoting is needed, and minimum degree on A + A^T keeps the factors small.
        factors = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
        result[free] = factors.solve(target)
    return torch.from_numpy(result).to(values)
