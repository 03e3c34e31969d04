"""Tables of dual marching cubes, derived from the topology of the cube.

Corners are numbered by their bits, x + 2 y + 4 z:        Edges: round the face y = 0, round y = 1, then along y::

          6-------7                                             +---6---+
         /|      /|                                            7|      5|
        2-------3 |        y                                  +---4---+ 10
        | |     | |        |  z                               | 11    | |
        | 4-----|-5        | /                                8 +---2-|-+
        |/      |/         |/                                 |3      9/1
        0-------1          +---- x                            +---0---+

A *case* is the set of inside corners, as eight bits. On each face of the cube the crossed edges are joined in pairs;
since every edge lies on two faces the pairs close into loops, and each loop gets one dual vertex. A face whose inside
corners are diagonal is *ambiguous*: it can cut off its inside or its outside corners. The rule here is to cut off the
inside corners, in both cubes that share the face, so that the surface has no cracks.

One rule alone is not enough for a manifold (Wenger, Isosurfaces, 2013; cases C16 and C19 of Shen et al. 2023): if in
both cubes a single loop runs through all four edges of the ambiguous face they share, four quads meet in one dual edge.
Those cubes are *saddles*; each has just one ambiguous face, so taking both as their complement, which cuts off the
outside corners, changes that face alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

MAX_LOOPS = 4
"""Four separate corners: the most loops of one case."""

_WALK = ((0, 0), (1, 0), (1, 1), (0, 1))
"""(x, z) of the corners round a face of constant y."""


def _corner(x: int, y: int, z: int) -> int:
    return x + 2 * y + 4 * z


CORNER_OFFSETS: tuple[tuple[int, int, int], ...] = tuple((c & 1, c >> 1 & 1, c >> 2) for c in range(8))
"""Corner number to (x, y, z) in the unit cube."""

EDGE_CORNERS: tuple[tuple[int, int], ...] = tuple(
    (_corner(x0, y, z0), _corner(x1, y, z1))
    for y in (0, 1)
    for (x0, z0), (x1, z1) in zip(_WALK, _WALK[1:] + _WALK[:1], strict=True)
) + tuple((_corner(x, 0, z), _corner(x, 1, z)) for x, z in _WALK)
"""Edge number to its two corners; the order of the published weights."""

FACE_CORNERS: tuple[tuple[int, int, int, int], ...] = tuple(
    tuple((side << axis) + (b << (axis + 1) % 3) + (c << (axis + 2) % 3) for b, c in _WALK)  # type: ignore[misc]
    for axis in range(3)
    for side in (0, 1)
)
"""Face number (2 axis + side) to its four corners in a ring."""

_EDGE_OF = {frozenset(ends): edge for edge, ends in enumerate(EDGE_CORNERS)}


@dataclass(frozen=True)
class DualTables:
    """What to build in a cube, by case.

    Attributes:
        loops: (256,) number of loops, 0 to 4.
        loop_of_edge: (256, 12) the loop that runs through an edge, -1 where the edge is not crossed.
        loop_edges: (256, 4, L) the edges of each loop, filled up with its first edge (0 where there is no loop).
        loop_lengths: (256, 4) how many of `loop_edges` count.
        saddle_face: (256,) the ambiguous face (2 axis + side) all four edges of which lie in one loop; -1 without one.
    """

    loops: Int[Tensor, " 256"]
    loop_of_edge: Int[Tensor, "256 12"]
    loop_edges: Int[Tensor, "256 4 L"]
    loop_lengths: Int[Tensor, "256 4"]
    saddle_face: Int[Tensor, " 256"]

    def to(self, device: torch.device | str) -> DualTables:
        return DualTables(**{name: value.to(device) for name, value in vars(self).items()})

    @property
    def saddle(self) -> Bool[Tensor, " 256"]:
        return self.saddle_face >= 0


def _face_pairs(case: int, face: int) -> list[tuple[int, int]]:
    """Pairs of crossed edges that the surface joins across a face: none, one, or two if the face is ambiguous."""
    ring = FACE_CORNERS[face]
    inside = [bool(case >> corner & 1) for corner in ring]
    edges = [_EDGE_OF[frozenset((ring[i], ring[(i + 1) % 4]))] for i in range(4)]  # edge i leaves corner i
    crossed = [edges[i] for i in range(4) if inside[i] != inside[(i + 1) % 4]]
    if len(crossed) == 4:
        return [(edges[i - 1], edges[i]) for i in range(4) if inside[i]]
    return [(crossed[0], crossed[1])] if crossed else []


def _case_loops(case: int) -> list[list[int]]:
    """The loops of crossed edges, each in the order of a walk round it; the loops by their first edge."""
    neighbours: dict[int, list[int]] = {}
    for face in range(6):
        for a, b in _face_pairs(case, face):
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    loops: list[list[int]] = []
    while neighbours:
        loop = [min(neighbours)]
        while following := [edge for edge in neighbours.pop(loop[-1]) if edge in neighbours and edge not in loop]:
            loop.append(following[0])
        loops.append(loop)
    return loops


def _saddle_face(case: int, loops: list[list[int]]) -> int:
    for face in range(6):
        pairs = _face_pairs(case, face)
        if len(pairs) == 2 and any({*pairs[0], *pairs[1]} <= set(loop) for loop in loops):
            return face
    return -1


@cache
def dual_tables() -> DualTables:
    """The tables on the CPU, derived at the first call."""
    loops = [_case_loops(case) for case in range(256)]
    longest = max(len(loop) for case in loops for loop in case)
    loop_of_edge = torch.full((256, 12), -1)
    loop_edges = torch.zeros(256, MAX_LOOPS, longest, dtype=torch.int64)
    loop_lengths = torch.zeros(256, MAX_LOOPS, dtype=torch.int64)
    for case, found in enumerate(loops):
        for number, loop in enumerate(found):
            loop_of_edge[case, loop] = number
            loop_edges[case, number] = torch.tensor(loop + loop[:1] * (longest - len(loop)))
            loop_lengths[case, number] = len(loop)
    return DualTables(
        loops=torch.tensor([len(found) for found in loops]),
        loop_of_edge=loop_of_edge,
        loop_edges=loop_edges,
        loop_lengths=loop_lengths,
        saddle_face=torch.tensor([_saddle_face(case, found) for case, found in enumerate(loops)]),
    )
