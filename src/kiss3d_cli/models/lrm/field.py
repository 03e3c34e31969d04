"""The heads, and the field that they read off three feature planes.

A point's feature is that of its projections on the planes, one after the other: plane 0 by (x, y), plane 1 by (x, z),
plane 2 by (z, y), columns first. The planes cover [-1, 1] of the LRM frame; beyond, the feature is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kiss3d_cli.models.lrm.config import LrmConfig

PLANE_AXES = ((0, 1), (0, 2), (2, 1))
HEAD_WIDTH = 64
DEFORMATION_SHARE = 0.25
"""A grid point moves by less than this share of 1 / resolution, in LRM units, along each axis."""
WEIGHT_FACTOR = 0.1
COLOR_MARGIN = 0.001
MIN_ROUGHNESS = 0.04**2
CHUNK = 2**16
"""Points or cells that are in work at once."""

Corners = tuple[tuple[int, int, int], ...]
_POINT: Corners = ((0, 0, 0),)
_CELL: Corners = tuple((k & 1, k >> 1 & 1, k >> 2) for k in range(8))


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, HEAD_WIDTH, HEAD_WIDTH):
        layers += [nn.Linear(width, HEAD_WIDTH), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(HEAD_WIDTH, outputs))


class Decoder(nn.Module):
    """One small MLP per quantity."""

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        channels = 3 * config.plane_channels
        self.net_sdf = _mlp(channels, 1)
        self.net_rgb = _mlp(channels, 3)
        self.net_material = _mlp(channels, 2)
        self.net_deformation = _mlp(channels, 3)
        self.net_weight = _mlp(8 * channels, 21)


@dataclass(frozen=True)
class CellWeights:
    """FlexiCubes weights of S cells before their squashing: per edge, per corner, per cell."""

    beta: Float[Tensor, "S 12"]
    alpha: Float[Tensor, "S 8"]
    gamma: Float[Tensor, " S"]


@dataclass(frozen=True)
class Material:
    """Of N points, each in [0, 1]."""

    metallic: Float[Tensor, " N"]
    roughness: Float[Tensor, " N"]


@dataclass(frozen=True)
class ReconstructedField:
    """What the network made of one object: to be asked at points of the LRM frame, in chunks.

    Attributes:
        planes: (3, C, R, R) float32 features.
        decoder: the heads, float32.
    """

    planes: Float[Tensor, "3 C R R"]
    decoder: Decoder

    def color(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """RGB in [0, 1], sRGB-encoded. Trained with a margin on both sides, which is cut off here."""
        raw = self._at(self.decoder.net_rgb, points).sigmoid()
        return (raw * (1 + 2 * COLOR_MARGIN) - COLOR_MARGIN).clamp(0, 1)

    def material(self, points: Float[Tensor, "N 3"]) -> Material:
        raw = self._at(self.decoder.net_material, points).sigmoid()
        return Material(metallic=raw[:, 0], roughness=raw[:, 1] * (1 - MIN_ROUGHNESS) + MIN_ROUGHNESS)

    @torch.inference_mode()
    def on_grid(self, axis: Float[Tensor, " R"]) -> GridField:
        """The field at all (x, y, z) of three equal axes, in LRM units."""
        square = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
        sampled = [
            _sample(plane, square if u < v else square.flip(-1))
            for plane, (u, v) in zip(self.planes, PLANE_AXES, strict=True)
        ]
        return GridField(torch.stack(sampled), self.decoder)

    @torch.inference_mode()
    def _at(self, head: nn.Sequential, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        parts = []
        for chunk in torch.split(points, CHUNK):
            sampled = [_sample(plane, chunk[:, axes]) for plane, axes in zip(self.planes, PLANE_AXES, strict=True)]
            parts.append(head(torch.cat(sampled, -1)))
        return torch.cat(parts)


@dataclass(frozen=True)
class GridField:
    """A field on a regular grid of R^3 points, numbered with z running fastest; cells likewise.

    A head's first layer is linear in the features of the three planes, and on a grid a plane is met at R^2 places only.
    So the layer is applied to each plane alone, and a point or a cell adds up three entries of small tables: what the
    layer would cost per point (240 channels) or cell (1920) is never paid.

    Attributes:
        squares: (3, R, R, C) features of the planes at the grid's places, the lower axis first.
        decoder: the heads, float32.
    """

    squares: Float[Tensor, "3 R R C"]
    decoder: Decoder

    @torch.inference_mode()
    def sdf(self) -> Float[Tensor, "R R R"]:
        """Signed distance, negative inside."""
        head = self.decoder.net_sdf
        xy, xz, yz = self._tables(head, _POINT)
        slab = max(1, CHUNK // len(xy) ** 2)
        starts = range(0, len(xy), slab)
        parts = [head[1:](xy[i : i + slab, :, None] + xz[i : i + slab, None] + yz) for i in starts]
        return torch.cat(parts)[..., 0]

    @torch.inference_mode()
    def deformation(self, points: Int[Tensor, " P"]) -> Float[Tensor, "P 3"]:
        """How far grid points of these numbers move, in LRM units."""
        limit = DEFORMATION_SHARE / (self.squares.shape[1] - 1)
        return limit * self._at(self.decoder.net_deformation, _POINT, points).tanh()

    @torch.inference_mode()
    def cell_weights(self, cells: Int[Tensor, " S"]) -> CellWeights:
        """FlexiCubes weights of the cells of these numbers."""
        raw = WEIGHT_FACTOR * self._at(self.decoder.net_weight, _CELL, cells)
        return CellWeights(beta=raw[:, :12], alpha=raw[:, 12:20], gamma=raw[:, 20])

    def _tables(self, head: nn.Sequential, corners: Corners) -> list[Float[Tensor, "Q Q H"]]:
        """The head's first layer over these corners of every point or cell, by plane: xy, xz, yz."""
        first = head[0]
        assert isinstance(first, nn.Linear)
        weight = first.weight.reshape(HEAD_WIDTH, len(corners), 3, -1)
        side = self.squares.shape[1] - max(max(corner) for corner in corners)
        tables = []
        for plane, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
            table = first.bias / 3
            for number, corner in enumerate(corners):
                square = self.squares[plane, corner[a] : corner[a] + side, corner[b] : corner[b] + side]
                table = table + square @ weight[:, number, plane].T
            tables.append(table)
        return tables

    def _at(self, head: nn.Sequential, corners: Corners, numbers: Int[Tensor, " P"]) -> Float[Tensor, "P K"]:
        xy, xz, yz = self._tables(head, corners)
        parts = []
        for chunk in torch.split(numbers, CHUNK):
            x, y, z = torch.unravel_index(chunk, (len(xy),) * 3)
            parts.append(head[1:](xy[x, y] + xz[x, z] + yz[y, z]))
        return torch.cat(parts)


def _sample(plane: Float[Tensor, "C R R"], places: Float[Tensor, "*N 2"]) -> Float[Tensor, "*N C"]:
    """Bilinear; `places` are (column, row) in [-1, 1] between the plane's outer edges, zero beyond."""
    flat = places.reshape(1, 1, -1, 2)
    sampled = F.grid_sample(plane[None], flat, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[0, :, 0].T.reshape(*places.shape[:-1], len(plane))


def grid_axis(config: LrmConfig, resolution: int) -> Float[Tensor, " R"]:
    """Grid points along one side of the cube that holds the object, in LRM units."""
    return torch.linspace(-config.grid_side / 2, config.grid_side / 2, resolution + 1)
