"""FlexiCubes: a triangle mesh from a scalar field on a grid, differentiable.

Shen et al., Flexible Isosurface Extraction for Gradient-Based Mesh Optimization, SIGGRAPH 2023. Every grid cell that
the surface crosses gets one dual vertex per loop of crossed edges (`dual_tables`), every crossed inner grid edge a
quad between the four cells round it, split into two triangles.

If the field is positive on the border of the grid, the mesh is a closed oriented 2-manifold in its combinatorics: two
faces at every edge, in opposite directions, and one fan of faces at every vertex. Otherwise it is open there: still no
edge has more than two faces. The embedding may cross itself where weights or deformation push a vertex out of its cell,
or where two sheets share a cell.

Grid points are numbered with z running fastest, cells likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.extract.dual_tables import CORNER_OFFSETS, EDGE_CORNERS, dual_tables
from kiss3d_cli.geometry.mesh import Mesh

_EDGE_OF = {frozenset(ends): edge for edge, ends in enumerate(EDGE_CORNERS)}


class _Shape(NamedTuple):
    """Grid points along x, y and z."""

    x: int
    y: int
    z: int


@dataclass(frozen=True)
class CubeWeights:
    """FlexiCubes weights of C cells before their squashing; any real number is allowed.

    Attributes:
        alpha: (C, 8) per corner, moves the crossings along the edges (equation 4).
        beta: (C, 12) per edge, the crossings' shares in the dual vertex (equation 5).
        gamma: (C,) decides how quads are split (section 4.4).
    """

    alpha: Float[Tensor, "C 8"]
    beta: Float[Tensor, "C 12"]
    gamma: Float[Tensor, " C"]

    def __getitem__(self, cells: Int[Tensor, " S"]) -> CubeWeights:
        return CubeWeights(self.alpha[cells], self.beta[cells], self.gamma[cells])

    def squashed(self, scale: float) -> CubeWeights:
        """alpha and beta in 1 +- scale, gamma in 1/2 +- scale / 2: positive for a scale in [0, 1)."""
        return CubeWeights(
            alpha=1 + scale * self.alpha.tanh(),
            beta=1 + scale * self.beta.tanh(),
            gamma=scale * self.gamma.sigmoid() + (1 - scale) / 2,
        )


@dataclass(frozen=True)
class DualGrid:
    """What the signs of a field decide: S crossed cells, N dual vertices, Q quads.

    Attributes:
        cells: (S,) numbers of the crossed cells, ascending.
        corners: (S, 8) numbers of their grid points.
        vertex_cell: (N,) row in `cells`.
        vertex_edges: (N, L) the edges of the vertex's loop, filled up with the first one.
        vertex_degree: (N,) how many of `vertex_edges` count.
        quads: (Q, 4) vertices, counter-clockwise seen from outside.
    """

    cells: Int[Tensor, " S"]
    corners: Int[Tensor, "S 8"]
    vertex_cell: Int[Tensor, " N"]
    vertex_edges: Int[Tensor, "N L"]
    vertex_degree: Int[Tensor, " N"]
    quads: Int[Tensor, "Q 4"]


def _cases(sdf: Float[Tensor, "X Y Z"]) -> UInt8[Tensor, "X-1 Y-1 Z-1"]:
    """Each cell's inside corners as bits; inside is where the field is negative."""
    inside = (sdf < 0).to(torch.uint8)
    pairs = inside[:-1] | inside[1:] << 1
    squares = pairs[:, :-1] | pairs[:, 1:] << 2
    return squares[..., :-1] | squares[..., 1:] << 4


def grid_places(numbers: Int[Tensor, "*N"], shape: Sequence[int]) -> Int[Tensor, "*N 3"]:
    """The places (x, y, z) of points on a grid, z fastest. torch.unravel_index loads sympy: 0.8 s of every process."""
    _, ny, nz = shape
    return torch.stack([numbers // (ny * nz), numbers // nz % ny, numbers % nz], -1)


def _resolve_saddles(
    cases: Int[Tensor, " S"], cells: Int[Tensor, " S"], row: Int[Tensor, " C"], shape: _Shape
) -> Int[Tensor, " S"]:
    """Takes two saddles that share their ambiguous face as their complements: see `dual_tables`."""
    tables = dual_tables().to(cases.device)
    saddles = tables.saddle[cases].nonzero()[:, 0]
    face = tables.saddle_face[cases[saddles]]
    count = torch.tensor(shape, device=cases.device) - 1
    place = grid_places(cells[saddles], count.tolist())
    place = place.scatter_add(1, (face // 2)[:, None], (face % 2 * 2 - 1)[:, None])
    there = ((place >= 0) & (place < count)).all(1)
    saddles, place = saddles[there], place[there]
    neighbour = row[(place[:, 0] * count[1] + place[:, 1]) * count[2] + place[:, 2]].long()
    saddles = saddles[tables.saddle[cases[neighbour]]]
    return cases.index_put((saddles,), 255 - cases[saddles])


def _quads(
    sdf: Float[Tensor, "X Y Z"], row: Int[Tensor, " C"], cases: Int[Tensor, " S"], first: Int[Tensor, " S"]
) -> Int[Tensor, "Q 4"]:
    """One quad round every crossed edge that has four cells.

    Where its ring of cells starts decides the split where gamma ties, always so with uniform weights; the starts here
    are those of the published meshes.
    """
    loop_of_edge = dual_tables().loop_of_edge.to(sdf.device)
    strides = ((sdf.shape[1] - 1) * (sdf.shape[2] - 1), sdf.shape[2] - 1, 1)
    inside = sdf < 0
    found = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        inner = inside.movedim((axis, b, c), (0, 1, 2))[:, 1:-1, 1:-1]
        crossed = (inner[:-1] != inner[1:]).nonzero()
        lower = crossed[:, 0] * strides[axis] + crossed[:, 1] * strides[b] + crossed[:, 2] * strides[c]
        ring = []
        walk = ((0, 0), (1, 0), (1, 1), (0, 1))  # counter-clockwise seen from the upper end of the edge
        for db, dc in walk if axis == 1 else walk[1:] + walk[:1]:
            corner = (1 - db << b) + (1 - dc << c)  # the edge's lower end in this cell
            edge = _EDGE_OF[frozenset((corner, corner + (1 << axis)))]
            cell = row[lower + db * strides[b] + dc * strides[c]].long()
            ring.append(first[cell] + loop_of_edge[cases[cell], edge])
        quads = torch.stack(ring, 1)
        upwards = inner[crossed[:, 0], crossed[:, 1], crossed[:, 2]]  # outside is at the upper end
        found.append(torch.where(upwards[:, None], quads, quads.flip(1)))
    return torch.cat(found)


@torch.no_grad()
def dual_grid(sdf: Float[Tensor, "X Y Z"]) -> DualGrid:
    """Finds the crossed cells and the mesh's connectivity from the signs of a field, negative inside.

    Raises:
        BadInput: the grid has no cell, the field is not finite, or it has one sign everywhere.
    """
    if min(sdf.shape) < 2:
        raise BadInput(
            f"a grid of {tuple(sdf.shape)} points has no cell", hint="give at least 2 points along each axis"
        )
    if not sdf.isfinite().all():
        raise BadInput("the field has values that are not finite", hint="look for NaN or infinity in what produced it")
    shape = _Shape(*sdf.shape)
    volume = _cases(sdf).flatten()
    cells = ((volume != 0) & (volume != 255)).nonzero()[:, 0]
    if not len(cells):
        where = "inside (negative)" if bool(volume[0]) else "outside (positive)"
        raise BadInput(f"there is no surface: the whole grid is {where}", hint="check the field and its sign")
    row = volume.new_zeros(len(volume), dtype=torch.int32)
    row[cells] = torch.arange(len(cells), dtype=torch.int32, device=sdf.device)
    cases = _resolve_saddles(volume[cells].long(), cells, row, shape)

    tables = dual_tables().to(sdf.device)
    loops = tables.loops[cases]
    first = loops.cumsum(0) - loops
    vertex_cell = torch.repeat_interleave(torch.arange(len(cells), device=sdf.device), loops)
    loop = torch.arange(len(vertex_cell), device=sdf.device) - first[vertex_cell]

    x, y, z = grid_places(cells, (shape.x - 1, shape.y - 1, shape.z - 1)).unbind(-1)
    offsets = torch.tensor([(dx * shape.y + dy) * shape.z + dz for dx, dy, dz in CORNER_OFFSETS], device=sdf.device)
    return DualGrid(
        cells=cells,
        corners=((x * shape.y + y) * shape.z + z)[:, None] + offsets,
        vertex_cell=vertex_cell,
        vertex_edges=tables.loop_edges[cases[vertex_cell], loop],
        vertex_degree=tables.loop_lengths[cases[vertex_cell], loop],
        quads=_quads(sdf, row, cases, first),
    )


def dual_vertices(
    grid: DualGrid,
    positions: Float[Tensor, "S 8 3"],
    sdf: Float[Tensor, "S 8"],
    weights: CubeWeights | None = None,
) -> Float[Tensor, "N 3"]:
    """Places the dual vertices: weighted means of their loops' crossings (equations 3 to 5). Differentiable.

    Args:
        positions: grid points at the corners of the crossed cells.
        sdf: the field there, with the signs that `grid` was made from.
        weights: squashed (positive) weights of the crossed cells; None is the same as ones.
    """
    cell = grid.vertex_cell[:, None]
    ends = torch.tensor(EDGE_CORNERS, device=sdf.device)[grid.vertex_edges]
    a, b = ends.unbind(-1)
    value = sdf if weights is None else sdf * weights.alpha
    value_a, value_b = value[cell, a], value[cell, b]
    along = value_a / (value_a - value_b)  # the signs differ, so the denominator is not 0
    start = positions[cell, a]
    crossing = start + along[..., None] * (positions[cell, b] - start)
    share = torch.arange(ends.shape[1], device=sdf.device) < grid.vertex_degree[:, None]
    share = share.to(sdf.dtype) if weights is None else share * weights.beta[cell, grid.vertex_edges]
    return (share[..., None] * crossing).sum(1) / share.sum(1, keepdim=True)


def split_quads(quads: Int[Tensor, "Q 4"], gamma: Float[Tensor, " N"] | None = None) -> Int[Tensor, "2*Q 3"]:
    """Two triangles per quad: split along corners 0 and 2 if gamma's product is larger there, else along 1 and 3."""
    between = quads[:, [0, 1, 3, 3, 1, 2]]
    if gamma is not None:
        corner = gamma.detach()[quads]
        along = corner[:, 0] * corner[:, 2] > corner[:, 1] * corner[:, 3]
        between = torch.where(along[:, None], quads[:, [0, 1, 2, 0, 2, 3]], between)
    return between.reshape(-1, 3)


def flexicubes(
    vertices: Float[Tensor, "P 3"],
    sdf: Float[Tensor, "X Y Z"],
    weights: CubeWeights | None = None,
    *,
    weight_scale: float = 0.5,
) -> Mesh:
    """Extracts the zero level set. Differentiable in the grid points, the field and the weights.

    Args:
        vertices: (X Y Z, 3) the grid points, deformed or not, in any frame and unit; z runs fastest.
        sdf: the field at those points, negative inside.
        weights: of all (X-1)(Y-1)(Z-1) cells, or None for uniform weights.
        weight_scale: how far the weights may pull, in [0, 1).

    Raises:
        BadInput: no cell, no surface, a value that is not finite, or sizes that don't fit.
    """
    if len(vertices) != sdf.numel():
        raise BadInput(f"{len(vertices)} grid points for a field of {sdf.numel()}", hint="give one point per value")
    grid = dual_grid(sdf)
    cell_count = (sdf.shape[0] - 1) * (sdf.shape[1] - 1) * (sdf.shape[2] - 1)
    if weights is not None and len(weights.gamma) != cell_count:
        raise BadInput(f"weights of {len(weights.gamma)} cells for {cell_count}", hint="give one row per cell")
    at_surface = None if weights is None else weights[grid.cells]
    return flexicubes_at(
        grid, vertices[grid.corners], sdf.reshape(-1)[grid.corners], at_surface, weight_scale=weight_scale
    )


def flexicubes_at(
    grid: DualGrid,
    positions: Float[Tensor, "S 8 3"],
    sdf: Float[Tensor, "S 8"],
    weights: CubeWeights | None = None,
    *,
    weight_scale: float = 0.5,
) -> Mesh:
    """`flexicubes` from values at the crossed cells alone, for fields that are costly to evaluate everywhere."""
    if weights is not None:
        weights = weights.squashed(weight_scale)
    gamma = None if weights is None else weights.gamma[grid.vertex_cell]
    return Mesh(dual_vertices(grid, positions, sdf, weights), split_quads(grid.quads, gamma))


def isosurface(
    field: Float[Tensor, "X Y Z"],
    lower: tuple[float, float, float] = (-1.0, -1.0, -1.0),
    upper: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Mesh:
    """A closed mesh of the zero level set of a field sampled on a regular grid, with uniform weights.

    Where the field is negative on the border of the grid, the mesh is closed half a cell beyond it.

    Args:
        field: negative inside.
        lower, upper: positions of the first and the last sample.

    Raises:
        BadInput: no cell, no surface, or a value that is not finite.
    """
    if min(field.shape) < 2:
        raise BadInput(f"a field of {tuple(field.shape)} has no cell", hint="sample at least 2 points along each axis")
    start = torch.tensor(lower, dtype=field.dtype, device=field.device)
    last = torch.tensor([size - 1 for size in field.shape], dtype=field.dtype, device=field.device)
    step = (torch.tensor(upper, dtype=field.dtype, device=field.device) - start) / last
    if any(bool((face < 0).any()) for axis in range(3) for face in (field.select(axis, 0), field.select(axis, -1))):
        padded = F.pad(field[None, None], (1,) * 6, mode="replicate")[0, 0].abs()
        padded[1:-1, 1:-1, 1:-1] = field
        field, start = padded, start - step
    grid = dual_grid(field)
    places = grid_places(grid.corners, field.shape)
    return flexicubes_at(grid, start + places * step, field.reshape(-1)[grid.corners])
