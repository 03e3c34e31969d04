"""Posed pictures to features: one vector, tokens to attend to, and what each point in space looks like in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.models.wavemesh.attention import HEADS, Layer
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.views import PLANES, PosedImages


@dataclass(frozen=True)
class Seen:
    """
    Attributes:
        pooled: one vector for each object. tokens: patches of all its views; those of views that are given are `there`.
        maps: features of every second pixel.
        images: what they were made of.
    """

    pooled: Float[Tensor, "B D"]
    tokens: Float[Tensor, "B T D"]
    there: Bool[Tensor, "B T"]
    maps: Float[Tensor, "B V C H W"]
    images: PosedImages


class ViewEncoder(nn.Module):
    """Convolutions at a half, a quarter and an eighth of the pictures' size, attention among the patches of all views.

    The camera is a Pluecker ray for every pixel, so that nothing else needs to know where a view stands. What DINOv2
    says of the same patches is added to them where the configuration has it.
    """

    def __init__(self, config: WaveMeshConfig) -> None:
        super().__init__()
        width, lifted = config.patch_width, config.lifted
        self.stem = nn.Sequential(nn.Conv2d(PLANES + 6, lifted, 4, 2, 1), nn.SiLU(), _Residual(lifted))
        self.eighth = nn.Sequential(
            nn.Conv2d(lifted, 2 * lifted, 4, 2, 1),
            nn.SiLU(),
            _Residual(2 * lifted),
            nn.Conv2d(2 * lifted, width, 2, 2),
        )
        self.place = nn.Parameter(0.02 * torch.randn(1, width, config.patches, config.patches))
        self.frozen = nn.Linear(config.frozen, width) if config.frozen else None
        self.layers = nn.ModuleList(Layer(width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.back = nn.Conv2d(width, lifted, 1)
        self.fine = _Residual(lifted)
        self.pool = nn.Linear(width, width)

    def forward(self, images: PosedImages) -> Seen:
        views = images.planes.shape[1]
        both = torch.cat([images.planes, images.rays], 2).flatten(0, 1)
        half = self.stem(both)
        patches = self.eighth(half) + self.place
        side = patches.shape[-1]
        tokens = patches.flatten(2).transpose(1, 2)
        if self.frozen is not None:
            assert images.features is not None
            tokens = tokens + self.frozen(images.features.flatten(0, 1).to(tokens.dtype))
        tokens = tokens.reshape(len(images.planes), views * side * side, -1)
        there = images.given.repeat_interleave(side * side, 1)
        for layer in self.layers:
            tokens = layer(tokens, there)
        tokens = self.norm(tokens)
        counted = there.to(tokens.dtype)[..., None]
        pooled = self.pool((tokens * counted).sum(1) / counted.sum(1).clamp_min(1))
        coarse = self.back(tokens.reshape(-1, side * side, tokens.shape[-1]).transpose(1, 2).unflatten(2, (side, side)))
        maps = self.fine(half + functional.interpolate(coarse, half.shape[-2:], mode="bilinear", align_corners=False))
        return Seen(pooled, tokens, there, maps.unflatten(0, (-1, views)), images)


class Lifting(nn.Module):
    """What points in space look like: features along their rays in every view, joined by attention over the views."""

    def __init__(self, config: WaveMeshConfig) -> None:
        super().__init__()
        width = config.lifted
        self.value = nn.Linear(width + 3, width)
        self.score = nn.Sequential(nn.Linear(width + 3, width), nn.SiLU(), nn.Linear(width, HEADS))
        self.out = nn.Linear(2 * width, width)

    def forward(self, seen: Seen, points: Float[Tensor, "P 3"]) -> Float[Tensor, "B P C"]:
        """
        Args:
            seen: the pictures' features.
            points: in the world, the same for every object.
        """
        where = seen.images.seen_at(points)
        batch, views, channels = seen.maps.shape[:3]
        grid = where[..., :2].flatten(0, 1)[:, None]
        found = functional.grid_sample(
            seen.maps.flatten(0, 1), grid.to(seen.maps.dtype), padding_mode="border", align_corners=False
        )
        found = found.reshape(batch, views, channels, -1).transpose(2, 3)
        centred = torch.stack([where[..., 0], where[..., 1], where[..., 2] - where[..., 2].mean(2, keepdim=True)], -1)
        each = torch.cat([found, centred.to(found.dtype)], -1)
        absent = ~seen.images.given[:, :, None, None]
        share = self.score(each).masked_fill(absent, -torch.inf).softmax(1)
        value = self.value(each).unflatten(-1, (HEADS, -1))
        joined = (share[..., None] * value).sum(1).flatten(-2)
        plain = (found * (~absent).to(found.dtype)).sum(1) / (~absent).sum(1).clamp_min(1)
        return self.out(torch.cat([joined, plain], -1))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.second(functional.silu(self.first(functional.silu(x))))
