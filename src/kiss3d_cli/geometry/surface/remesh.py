"""Edge collapse, split and flip on tensors (after Palfinger 2022, "Continuous remeshing for inverse rendering").

Every function takes and returns a closed, oriented manifold. Vertices travel as rows of C >= 3 numbers, the position
first: whatever else belongs to a vertex (an optimiser's state) is averaged along with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kiss3d_cli.geometry.mesh import face_normals
from kiss3d_cli.geometry.surface.manifold import Edges, find_edges, sorted_order

_MIN_COSINE = 0.3
"""A change may not turn a face further than this from where it, or the faces it replaces, looked before."""
_SMALLEST_VALENCE = 3
_BEST_VALENCE = 6
"""Neighbours of a vertex in a regular triangulation."""


@dataclass(frozen=True)
class Remeshed:
    """A closed manifold.

    Attributes:
        rows: (N, C) position, then whatever else belongs to the vertex.
        faces: (F, 3).
    """

    rows: Float[Tensor, "N C"]
    faces: Int[Tensor, "F 3"]


def remesh(
    rows: Float[Tensor, "N C"],
    faces: Int[Tensor, "F 3"],
    shortest: float,
    longest: float,
    edges: Edges | None = None,
) -> Remeshed:
    """One round of bringing edge lengths between two bounds: collapse, split, then flip.

    It moves the mesh towards the bounds; it does not promise to reach them.

    Args:
        edges: `find_edges(faces)`, if known.
    """
    mesh = collapse_edges(rows, faces, shortest, longest, edges)
    mesh = split_edges(mesh.rows, mesh.faces, longest)
    return flip_edges(mesh.rows, mesh.faces)


def collapse_edges(
    rows: Float[Tensor, "N C"],
    faces: Int[Tensor, "F 3"],
    shorter_than: float,
    longest: float = torch.inf,
    edges: Edges | None = None,
) -> Remeshed:
    """Merge the ends of short edges in their middle.

            c                      c
          / | \\                    |
        .-a-b-.        ->        .-m-.
          \\ | /                    |
            d                      d

    No end of an edge collapsed in one call is a neighbour of an end of another. An edge stays if merging its ends
    would change the topology (link condition: the ends share exactly the neighbours c and d), leave a vertex with
    fewer than three neighbours, turn a face over or make an edge longer than `longest`.
    """
    edges = find_edges(faces) if edges is None else edges
    a, b = edges.ends.unbind(1)
    length = (rows[a, :3] - rows[b, :3]).norm(dim=-1)
    valence = edges.valence(len(rows))
    chosen = (length < shorter_than) & (valence[edges.opposite] > _SMALLEST_VALENCE).all(1)
    chosen = chosen.nonzero().squeeze(1)
    chosen = chosen[_shared_neighbours(edges, valence, chosen) == 2]
    chosen = _apart(edges, chosen[_scrambled(len(chosen), faces.device)], len(rows))

    owner = torch.full_like(valence, -1)
    owner[edges.ends[chosen]] = chosen[:, None]
    moved = rows.clone()
    moved[edges.ends[chosen]] = rows[edges.ends[chosen]].mean(1, keepdim=True)
    face_owner = owner[faces].amax(1)
    around = (face_owner >= 0) & ((owner[faces] >= 0).sum(1) == 1)
    corners = moved[faces[around], :3]
    before, after = face_normals(rows[:, :3], faces[around]), face_normals(moved[:, :3], faces[around])
    cosine = torch.cosine_similarity(before, after, dim=-1)
    longest_edge = (corners - corners.roll(-1, 1)).norm(dim=-1).amax(1)
    refused = torch.zeros_like(a, dtype=torch.bool)
    refused[face_owner[around][(cosine < _MIN_COSINE) | (longest_edge > longest)]] = True
    chosen = chosen[~refused[chosen]]

    target = torch.arange(len(rows), device=faces.device)
    target[b[chosen]] = a[chosen]
    merged = rows.clone()
    merged[a[chosen]] = moved[a[chosen]]
    kept = target[faces]
    kept = kept[(kept != kept.roll(-1, 1)).all(1)]
    return _drop_unused(merged, kept)


def split_edges(rows: Float[Tensor, "N C"], faces: Int[Tensor, "F 3"], longer_than: float) -> Remeshed:
    """Put a vertex in the middle of every long edge and divide the faces beside it.

           c                 c                  c                 c
          / \\               /|\\                / \\               / \\
         /   \\      ->     / | \\      or     /  m12     or    m20---m12
        /     \\           /  |  \\           / _/  \\           / \\ / \\
       a-------b         a--m01--b         a--m01---b         a--m01---b
    """
    edges = find_edges(faces)
    ends = rows[edges.ends]
    long = (ends[:, 0, :3] - ends[:, 1, :3]).norm(dim=-1) > longer_than
    middle = torch.where(long, long.cumsum(0) - 1 + len(rows), -1)
    rows = torch.cat([rows, ends[long].mean(1)])
    marks = middle[edges.of_face]
    count = (marks >= 0).sum(1)
    divided = [faces[count == 0]]

    corner, mark = _turned(faces[count == 1], marks[count == 1], first=(marks[count == 1] >= 0))
    (a, b, c), m01 = corner.unbind(1), mark[:, 0]
    divided += [torch.stack([a, m01, c], 1), torch.stack([m01, b, c], 1)]

    uncut = (marks[count == 2] < 0).roll(1, 1)  # turn until the edge c -> a is the one without a new vertex
    corner, mark = _turned(faces[count == 2], marks[count == 2], first=uncut)
    (a, b, c), (m01, m12, _) = corner.unbind(1), mark.unbind(1)
    divided.append(torch.stack([m01, b, m12], 1))
    from_a = (rows[a, :3] - rows[m12, :3]).norm(dim=-1) <= (rows[c, :3] - rows[m01, :3]).norm(dim=-1)
    divided.append(torch.stack([a, m01, torch.where(from_a, m12, c)], 1))
    divided.append(torch.stack([torch.where(from_a, a, m01), m12, c], 1))

    (a, b, c), (m01, m12, m20) = faces[count == 3].unbind(1), marks[count == 3].unbind(1)
    for one, two, three in ((a, m01, m20), (m01, b, m12), (m20, m12, c), (m01, m12, m20)):
        divided.append(torch.stack([one, two, three], 1))
    return Remeshed(rows, torch.cat(divided))


def flip_edges(rows: Float[Tensor, "N C"], faces: Int[Tensor, "F 3"]) -> Remeshed:
    """Turn edges that bring the number of neighbours of the four vertices around them closer to six.

            c                      c
          /   \\                  / | \\
        a ----- b      ->      a   |   b
          \\   /                  \\ | /
            d                      d

    An edge stays if c and d are neighbours already, if an end would keep fewer than three neighbours, or if a new
    face would look elsewhere than the two it replaces (so creases stay). Two flips in one call share no vertex.
    """
    edges = find_edges(faces)
    (a, b), (c, d) = edges.ends.unbind(1), edges.opposite.unbind(1)
    valence = edges.valence(len(rows))
    excess = valence - _BEST_VALENCE
    # Sum of squares before minus after: (x+1)^2 - x^2 = 2x + 1 for c and d, (x-1)^2 - x^2 = -2x + 1 for a and b.
    gain = 2 * (excess[a] + excess[b] - excess[c] - excess[d]) - 4
    chosen = ((gain > 0) & (valence[a] > _SMALLEST_VALENCE) & (valence[b] > _SMALLEST_VALENCE)).nonzero().squeeze(1)
    chosen = chosen[~_contains(edges, c[chosen], d[chosen])]

    position = rows[:, :3]
    ca, cb, cc, cd = a[chosen], b[chosen], c[chosen], d[chosen]
    old = [face_normals(position, torch.stack(face, 1)) for face in ((ca, cb, cc), (cb, ca, cd))]
    new = [face_normals(position, torch.stack(face, 1)) for face in ((ca, cd, cc), (cd, cb, cc))]
    safe = torch.ones_like(chosen, dtype=torch.bool)
    for before in old:
        for after in new:
            safe &= torch.cosine_similarity(before, after, dim=-1) > _MIN_COSINE
    chosen = chosen[safe]

    chosen = chosen[_scrambled(len(chosen), faces.device)]
    chosen = chosen[gain[chosen].argsort(stable=True, descending=True)]
    touched = torch.cat([edges.ends[chosen], edges.opposite[chosen]], 1)
    rank = torch.arange(len(chosen), device=faces.device)
    first = _smallest(len(rows), touched.flatten(), rank.repeat_interleave(4))
    chosen = chosen[(first[touched] == rank[:, None]).all(1)]

    marked = torch.zeros_like(a, dtype=torch.bool)
    marked[chosen] = True
    kept = faces[~marked[edges.of_face].any(1)]
    ca, cb, cc, cd = a[chosen], b[chosen], c[chosen], d[chosen]
    return Remeshed(rows, torch.cat([kept, torch.stack([ca, cd, cc], 1), torch.stack([cd, cb, cc], 1)]))


def _turned(
    faces: Int[Tensor, "K 3"], marks: Int[Tensor, "K 3"], first: Bool[Tensor, "K 3"]
) -> tuple[Int[Tensor, "K 3"], Int[Tensor, "K 3"]]:
    """Faces and the marks of their edges, rotated so that the (one) corner flagged in `first` comes first."""
    start = first.int().argmax(1, keepdim=True)
    index = (start + torch.arange(3, device=faces.device)) % 3
    return faces.gather(1, index), marks.gather(1, index)


def _smallest(count: int, index: Int[Tensor, " K"], value: Int[Tensor, " K"]) -> Int[Tensor, " N"]:
    """For each of `count` vertices the smallest value given to it; a huge number where none is."""
    smallest = torch.full((count,), torch.iinfo(torch.int64).max, device=index.device)
    return smallest.scatter_reduce(0, index, value, "amin")


def _scrambled(count: int, device: torch.device) -> Int[Tensor, " K"]:
    """A fixed permutation without runs (Knuth's multiplicative hash).

    Where neighbours are ranked at random, each round of choosing the locally best takes a constant share of them
    (Luby 1986); ranked by length or by number, a smooth mesh would give up one at a time.
    """
    return (torch.arange(count, device=device) * 2654435761 % 2**32).argsort(stable=True)


def _apart(edges: Edges, chosen: Int[Tensor, " K"], count: int) -> Int[Tensor, " M"]:
    """Those of the chosen edges, given in order of preference, that have no better one at or next to their ends.

    So no face touches two of them, and collapsing one changes neither the neighbours that the ends of another share
    nor its faces. Of the n neighbours of a vertex at most n / 3 disappear, so that three remain wherever n > 3.
    """
    a, b = edges.ends.unbind(1)
    rank = torch.arange(len(chosen), device=chosen.device)
    claim = _smallest(count, edges.ends[chosen].flatten(), rank.repeat_interleave(2))
    claim = claim.scatter_reduce(0, torch.cat([a, b]), torch.cat([claim[b], claim[a]]), "amin")
    return chosen[(claim[edges.ends[chosen]] == rank[:, None]).all(1)]


def _contains(edges: Edges, one: Int[Tensor, " K"], two: Int[Tensor, " K"]) -> Bool[Tensor, " K"]:
    """Whether the vertices of each pair are neighbours."""
    span = int(edges.ends.max()) + 1
    keys = edges.ends[:, 0] * span + edges.ends[:, 1]  # ascending, as find_edges promises
    key = torch.minimum(one, two) * span + torch.maximum(one, two)
    place = torch.searchsorted(keys, key).clamp_max(len(keys) - 1)
    return keys[place] == key


def _shared_neighbours(edges: Edges, valence: Int[Tensor, " N"], chosen: Int[Tensor, " K"]) -> Int[Tensor, " K"]:
    """How many vertices are neighbours of both ends of each chosen edge."""
    start = torch.cat([edges.ends[:, 0], edges.ends[:, 1]])
    end = torch.cat([edges.ends[:, 1], edges.ends[:, 0]])
    neighbours = end[sorted_order(start, len(valence))]
    offset = valence.cumsum(0) - valence
    a, b = edges.ends[chosen].unbind(1)
    fewer = torch.where(valence[a] <= valence[b], a, b)
    count = valence[fewer]
    which = torch.arange(len(chosen), device=chosen.device).repeat_interleave(count)
    within = torch.arange(len(which), device=chosen.device) - (count.cumsum(0) - count)[which]
    neighbour = neighbours[offset[fewer][which] + within]
    other = (a + b - fewer)[which]
    shared = _contains(edges, neighbour, other) & (neighbour != other)
    return torch.zeros_like(chosen).index_add(0, which, shared.long())


def _drop_unused(rows: Float[Tensor, "N C"], faces: Int[Tensor, "F 3"]) -> Remeshed:
    used = torch.zeros(len(rows), dtype=torch.bool, device=faces.device)
    used[faces] = True
    return Remeshed(rows[used], (used.cumsum(0) - 1)[faces])
