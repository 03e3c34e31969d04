"""Lists of occupied cells at several resolutions, and convolutions among them.

A submanifold convolution (Graham et al. 2018) gives an answer where there is a site and sees only sites: what is empty
stays empty. Two ways, with the same weights and the same answers:

    gather   the 27 neighbours of every site are gathered, and one matrix product does the rest
    dense    sites are written into a grid of zeros, convolved, and read back: faster where much of the grid is occupied

spconv does it instead on a GPU where it is installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.core.errors import BadInput

WAYS = ("auto", "gather", "dense", "spconv")
_FULL = 0.08
"""Share of occupied cells above which the grid is faster than gathering."""
_LARGEST_GRID = 48
"""Cells a side up to which the grid is thought of."""
OFFSETS = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]


@dataclass(frozen=True)
class Sites:
    """N occupied cells of B grids of side G.

    Attributes:
        index: (N,) ascending, `((b G + x) G + y) G + z`.
        batch, side: B and G.
        neighbours: (N, 27) rows of the neighbours, N where there is none.
        parent: (N,) row of the cell that holds it in the next coarser list, and `child`, (N,) in 0 .. 7, which of its
            eight it is; None in the coarsest.
    """

    index: Int[Tensor, " N"]
    batch: int
    side: int
    neighbours: Int[Tensor, "N 27"]
    parent: Int[Tensor, " N"] | None
    child: Int[Tensor, " N"] | None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def owner(self) -> Int[Tensor, " N"]:
        """The grid that each site belongs to."""
        return self.index // self.side**3

    @property
    def crowded(self) -> bool:
        return self.side <= _LARGEST_GRID and len(self) > _FULL * self.batch * self.side**3

    def to_grid(self, features: Float[Tensor, "N C"]) -> Float[Tensor, "B G G G C"]:
        """Features in their cells, zeros elsewhere."""
        grid = features.new_zeros(self.batch * self.side**3, features.shape[1])
        return grid.index_copy(0, self.index, features).reshape(self.batch, *(self.side,) * 3, -1)

    def of_grid(self, grid: Float[Tensor, "B *cells C"]) -> Float[Tensor, "N C"]:
        return grid.reshape(-1, grid.shape[-1]).index_select(0, self.index)


def pyramid(occupied: Bool[Tensor, "B G G G"], levels: int) -> list[Sites]:
    """The sites of each resolution, finest first: a coarse cell is occupied if one of its eight is.

    Raises:
        BadInput: a grid has no site, or can't be halved so often.
    """
    batch, side = occupied.shape[:2]
    if side % 2 ** (levels - 1):
        raise BadInput(f"{side} sites a side can't be halved {levels - 1} times", hint="give fewer widths")
    if not bool(occupied.flatten(1).any(1).all()):
        raise BadInput("a volume has no coefficients: nothing is occupied", hint="look at the views' masks")
    found = []
    lists = [occupied]
    for _ in range(levels - 1):
        lists.append(functional.max_pool3d(lists[-1][:, None].float(), 2)[:, 0] > 0)
    rows = []
    for level in lists:
        count = int(level.sum())
        row = torch.full(level.shape, -1, dtype=torch.int64, device=level.device)
        row[level] = torch.arange(count, device=level.device)
        rows.append(row)
    for number, (level, row) in enumerate(zip(lists, rows, strict=True)):
        b, x, y, z = level.nonzero().unbind(1)
        n, g = len(b), level.shape[1]
        padded = functional.pad(row, (1,) * 6, value=-1)
        near = torch.stack([padded[b, x + 1 + i, y + 1 + j, z + 1 + k] for i, j, k in OFFSETS], 1)
        near = torch.where(near < 0, n, near)
        parent = child = None
        if number + 1 < levels:
            parent = rows[number + 1][b, x // 2, y // 2, z // 2]
            child = (x % 2 * 2 + y % 2) * 2 + z % 2
        found.append(Sites(((b * g + x) * g + y) * g + z, batch, g, near, parent, child))
    return found


class SiteConvolution(nn.Module):
    """A submanifold convolution of 3 x 3 x 3 cells.

    `weight` is (27, C_in, C_out), in the order of `OFFSETS`.
    """

    def __init__(self, inputs: int, outputs: int, *, silent: bool = False) -> None:
        super().__init__()
        bound = 0.0 if silent else 1 / math.sqrt(27 * inputs)
        self.weight = nn.Parameter(torch.empty(27, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.way = "auto"

    def forward(self, features: Float[Tensor, "N C"], sites: Sites) -> Float[Tensor, "N D"]:
        way = self.way
        if way == "auto":
            way = "dense" if sites.crowded else "gather"
            if way == "gather" and features.is_cuda and spconv() is not None:
                way = "spconv"
        return {"gather": self._gathered, "dense": self._dense, "spconv": self._by_spconv}[way](features, sites)

    def _gathered(self, features: Float[Tensor, "N C"], sites: Sites) -> Float[Tensor, "N D"]:
        empty = features.new_zeros(1, features.shape[1])
        # index_select and not features[neighbours], whose backward adds in an order that depends on the threads
        near = torch.cat([features, empty]).index_select(0, sites.neighbours.reshape(-1))
        weight = self.weight.to(near.dtype).flatten(0, 1)
        return near.reshape(len(features), -1) @ weight + self.bias.to(near.dtype)

    def _dense(self, features: Float[Tensor, "N C"], sites: Sites) -> Float[Tensor, "N D"]:
        grid = sites.to_grid(features).permute(0, 4, 1, 2, 3)
        weight = self.weight.reshape(3, 3, 3, *self.weight.shape[1:]).permute(4, 3, 0, 1, 2)
        answer = functional.conv3d(grid, weight.to(grid.dtype), self.bias.to(grid.dtype), padding=1)
        return sites.of_grid(answer.permute(0, 2, 3, 4, 1).contiguous())

    def _by_spconv(self, features: Float[Tensor, "N C"], sites: Sites) -> Float[Tensor, "N D"]:
        library = spconv()
        assert library is not None
        g = sites.side
        place = sites.index
        where = torch.stack([place // g**3, place // g**2 % g, place // g % g, place % g], 1).int()
        layer = library.SubMConv3d(self.weight.shape[1], self.weight.shape[2], 3, bias=False)
        cube = self.weight.reshape(3, 3, 3, *self.weight.shape[1:])
        del layer.weight  # a parameter of its own; ours takes its place, with its gradient
        layer.weight = cube.permute(4, 0, 1, 2, 3).to(features.dtype).contiguous()
        answer = layer.to(features.device)(library.SparseConvTensor(features, where, [g] * 3, sites.batch))
        return answer.features + self.bias.to(features.dtype)


@cache
def spconv() -> Any | None:
    """The library, where it is installed."""
    try:
        import spconv.pytorch as library
    except ImportError:
        return None
    return library


class Down(nn.Module):
    """Eight cells to one: each has its own matrix, empty ones add nothing."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(8 * inputs)
        self.weight = nn.Parameter(torch.empty(8, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Float[Tensor, "N C"], fine: Sites, coarse: Sites) -> Float[Tensor, "M D"]:
        assert fine.parent is not None
        assert fine.child is not None
        slots = features.new_zeros(len(coarse) * 8, features.shape[1])
        slots = slots.index_copy(0, fine.parent * 8 + fine.child, features)
        return slots.reshape(len(coarse), -1) @ self.weight.flatten(0, 1).to(slots.dtype) + self.bias.to(slots.dtype)


class Up(nn.Module):
    """One cell to those of its eight that are occupied."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.linear = nn.Linear(inputs, 8 * outputs)

    def forward(self, features: Float[Tensor, "M C"], fine: Sites) -> Float[Tensor, "N D"]:
        assert fine.parent is not None
        assert fine.child is not None
        slots = self.linear(features).reshape(-1, self.outputs)
        return slots.index_select(0, fine.parent * 8 + fine.child)
