"""The heads, and the field that they read off three feature planes.

A point's feature is that of its projections on the planes, one after the other: plane 0 by (x, y), plane 1 by (x, z),
plane 2 by (z, y), columns first. The planes cover [-1, 1] of the LRM frame; beyond, the feature is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kiss3d_cli.models.lrm.config import LrmConfig

PLANE_AXES = ((0, 1), (0, 2), (2, 1))
HEAD_WIDTH = 64
DEFORMATION_SHARE = 0.25
"""A grid point moves by less than this share of a cell of a grid of side 1."""
WEIGHT_FACTOR = 0.1
COLOR_MARGIN = 0.001
MIN_ROUGHNESS = 0.04**2
CHUNK = 2**16
"""Points or cells that are in work at once; a point has 240 channels and a cell eight points."""


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

    def sdf(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Signed distance, negative inside."""
        return self._at(points, lambda features: self.decoder.net_sdf(features)[:, 0])

    @torch.no_grad()
    def sdf_on_grid(self, axis: Float[Tensor, " R"]) -> Float[Tensor, "R R R"]:
        """`sdf` at all (x, y, z) of three equal axes.

        On such a grid a plane is only sampled at R^2 points, and the first layer, being linear in the planes' features
        one after the other, becomes a sum of three small tables.
        """
        first, later = self.decoder.net_sdf[0], self.decoder.net_sdf[1:]
        assert isinstance(first, nn.Linear)
        tables = []
        for plane, (u, v), weight in zip(self.planes, PLANE_AXES, first.weight.chunk(3, 1), strict=True):
            square = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)  # the lower axis first
            table = _sample(plane, square if u < v else square.flip(-1)) @ weight.T
            tables.append(table.unsqueeze(3 - u - v))
        xy, xz, yz = tables
        slab = max(1, CHUNK // len(axis) ** 2)
        parts = [later(xy[i : i + slab] + xz[i : i + slab] + yz + first.bias) for i in range(0, len(axis), slab)]
        return torch.cat(parts)[..., 0]

    def deformation(self, points: Float[Tensor, "N 3"], resolution: int) -> Float[Tensor, "N 3"]:
        """How far each grid point moves, in LRM units; `resolution` is the grid's number of cells along a side."""
        limit = DEFORMATION_SHARE / resolution
        return self._at(points, lambda features: limit * self.decoder.net_deformation(features).tanh())

    @torch.no_grad()
    def cell_weights(self, points: Float[Tensor, "N 3"], cells: Int[Tensor, "S 8"]) -> CellWeights:
        """Weights of the cells with these corners among `points`, corner bits x + 2 y + 4 z."""
        features = self._at(points, lambda features: features)
        raw = torch.cat(
            [self.decoder.net_weight(features[chunk].flatten(1)) for chunk in torch.split(cells, CHUNK // 8)]
        )
        raw = WEIGHT_FACTOR * raw
        return CellWeights(beta=raw[:, :12], alpha=raw[:, 12:20], gamma=raw[:, 20])

    def color(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """RGB in [0, 1], sRGB-encoded. Trained with a margin on both sides, which is cut off here."""
        raw = self._at(points, lambda features: self.decoder.net_rgb(features).sigmoid())
        return (raw * (1 + 2 * COLOR_MARGIN) - COLOR_MARGIN).clamp(0, 1)

    def material(self, points: Float[Tensor, "N 3"]) -> Material:
        raw = self._at(points, lambda features: self.decoder.net_material(features).sigmoid())
        return Material(metallic=raw[:, 0], roughness=raw[:, 1] * (1 - MIN_ROUGHNESS) + MIN_ROUGHNESS)

    @torch.no_grad()
    def _at(self, points: Float[Tensor, "N 3"], head: Callable[[Tensor], Tensor]) -> Tensor:
        parts = []
        for chunk in torch.split(points, CHUNK):
            sampled = [_sample(plane, chunk[:, axes]) for plane, axes in zip(self.planes, PLANE_AXES, strict=True)]
            parts.append(head(torch.cat(sampled, -1)))
        return torch.cat(parts)


def _sample(plane: Float[Tensor, "C R R"], places: Float[Tensor, "*N 2"]) -> Float[Tensor, "*N C"]:
    """Bilinear; `places` are (column, row) in [-1, 1] between the plane's outer edges, zero beyond."""
    flat = places.reshape(1, 1, -1, 2)
    sampled = F.grid_sample(plane[None], flat, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[0, :, 0].T.reshape(*places.shape[:-1], len(plane))


def grid_axis(config: LrmConfig, resolution: int) -> Float[Tensor, " R"]:
    """Grid points along one side of the cube that holds the object, in LRM units."""
    return torch.linspace(-config.grid_side / 2, config.grid_side / 2, resolution + 1)
