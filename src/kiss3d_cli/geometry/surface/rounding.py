"""Edges of a smooth surface that is sampled too coarsely for its bends, rounded off by adding vertices there."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from kiss3d_cli.geometry.mesh import Mesh, vertex_normals
from kiss3d_cli.geometry.surface.intersections import edges_of, which_bend

LONGEST_BULGE = 0.5
"""Of an edge's middle over the edge, in edge lengths: that of a half circle."""


def round_bent_edges(mesh: Mesh, degrees: float = 60.0) -> Mesh:
    """Split the faces at edges bent by more than an angle, and lift the new vertices to the curve they stand for.

    A wire whose section is a diamond gets that of an octagon; the vertices that are there stay. A new vertex lies on
    the circular arc through the edge's two ends that is perpendicular to their normals, as the cubic of curved PN
    triangles does for small angles (Vlachos et al. 2001). Faces beside those that are split are cut to fit, so a
    closed surface stays closed.

    Args:
        mesh: a sampling of a surface that is smooth everywhere; a real crease would be rounded too.
        degrees: between the directions of an edge's two faces.
    """
    vertices, faces = mesh.vertices.double(), mesh.faces.numpy()
    edges, of_face = edges_of(faces)
    bent = which_bend(vertices.numpy(), faces, of_face, degrees)
    if not bent.any():
        return mesh
    split = np.zeros(len(edges), dtype=bool)
    split[of_face[bent[of_face].any(1)]] = True
    chosen = edges[split]
    normals = vertex_normals(vertices, mesh.faces).numpy()
    middle = _middles(vertices.numpy()[chosen], normals[chosen])
    number = np.full(len(edges), -1)
    number[split] = len(vertices) + np.arange(len(chosen))
    positions = torch.cat([mesh.vertices, torch.from_numpy(middle).to(mesh.vertices)])
    colors = mesh.colors
    if colors is not None:
        colors = torch.cat([colors, colors[torch.from_numpy(chosen)].mean(1)])
    return Mesh(positions, torch.from_numpy(_cut(faces, number[of_face])), colors)


def _middles(ends: Float[np.ndarray, "E 2 3"], normals: Float[np.ndarray, "E 2 3"]) -> Float[np.ndarray, "E 3"]:
    """Of the arcs over the edges: c / 2 tan(a / 2) over the chord c, where the normals are 2 a apart."""
    along = ends[:, 1] - ends[:, 0]
    rise = (along * (normals[:, 1] - normals[:, 0])).sum(1)  # positive where the surface is convex
    both = normals.sum(1)
    half = np.linalg.norm(both, axis=1) / 2  # cos a
    bulge = rise / (4 * (1 + half))
    limit = LONGEST_BULGE * np.linalg.norm(along, axis=1)
    up = both / np.maximum(2 * half, 1e-9)[:, None]
    return ends.mean(1) + np.clip(bulge, -limit, limit)[:, None] * up


def _cut(faces: Int[np.ndarray, "F 3"], middle: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "G 3"]:
    """Faces with one, two or three split edges as two, three or four; `middle` is -1 where an edge is whole."""
    there = middle >= 0
    kept = [faces[~there.any(1)]]
    for splits in (1, 2, 3):
        which = there.sum(1) == splits
        face, new = faces[which], middle[which]
        # turned so that with one split it is the first edge's, with two the third edge is whole
        turn = there[which].argmax(1) if splits == 1 else (np.argmin(there[which], 1) + 1) % 3 if splits == 2 else 0
        index = (np.arange(3)[None] + np.broadcast_to(np.asarray(turn), len(face))[:, None]) % 3
        a, b, c = np.take_along_axis(face, index, 1).T
        ab, bc, ca = np.take_along_axis(new, index, 1).T
        parts = {
            1: [(a, ab, c), (ab, b, c)],
            2: [(ab, b, bc), (a, ab, bc), (a, bc, c)],
            3: [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
        }[splits]
        kept += [np.stack(part, 1) for part in parts]
    return np.concatenate(kept).astype(np.int64)
