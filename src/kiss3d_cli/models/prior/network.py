"""A small U-Net over one cut-out picture that corrects the depths of a plain inflation.

It works on a grid of 4 x 4 pixel patches: what a laptop's processor can train and run. Its answers are residuals
over the inflation, the picture and the facing normal, so that a network that knows nothing answers with those.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SIZE = 128
"""Pixels a side of the picture and of every answer."""
PATCH = 4
TILT = 0.0875
"""Depth for each unit upwards of an upright plane seen from 5 degrees above."""
INPUTS = 9
"""Red, green, blue and alpha, the inflation's height and its gradient, the pixel's place."""
CHANNELS = {"depth": 2, "spread": 2, "normals": 3, "back": 3, "sides": 6, "gap": 1}


@dataclass(frozen=True)
class PriorConfig:
    """What the weights fit.

    Attributes:
        widths: channels of the patches, and of the grids at a half and a quarter of their resolution.
        blocks: residual blocks at each of these on the way down; one at each on the way up.
        attention: layers of attention among the coarsest grid's cells.
    """

    widths: tuple[int, int, int] = (32, 64, 160)
    blocks: tuple[int, int, int] = (1, 1, 2)
    attention: int = 2

    def as_dict(self) -> dict[str, list[int] | int]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @staticmethod
    def of(values: dict[str, object]) -> PriorConfig:
        """From `as_dict` or JSON.

        Raises:
            ValueError: keys that are unknown or missing, or values of another form.
        """
        names = {entry.name for entry in dataclasses.fields(PriorConfig)}
        if set(values) != names:
            raise ValueError(f"a configuration of {sorted(values)}, not of {sorted(names)}")
        widths, blocks, attention = values["widths"], values["blocks"], values["attention"]
        for row in (widths, blocks):
            if not (isinstance(row, list | tuple) and len(row) == 3 and all(isinstance(n, int) and n > 0 for n in row)):
                raise ValueError(f"{row} is not three whole numbers above 0")
        if not isinstance(attention, int) or not 0 <= attention <= 64:
            raise ValueError(f"{attention} layers of attention")
        return PriorConfig(tuple(widths), tuple(blocks), attention)  # type: ignore[arg-type]


@dataclass(frozen=True)
class PriorAnswer:
    """What is said about B pictures; lengths in half picture sides.

    Attributes:
        depth: (B, 2, S, S) front and back, towards the camera.
        spread: (B, 2, S, S) logarithm of the depth's expected error.
        normals: (B, 3, S, S) unit, in the camera's axes.
        back: (B, 3, S, S) sRGB-encoded colours of the surface seen from behind, unlit.
        sides: (B, 6, S, S) colours from the left and from the right.
        gap: (B, S, S) logit of outside air between front and back.
    """

    depth: Float[Tensor, "B 2 S S"]
    spread: Float[Tensor, "B 2 S S"]
    normals: Float[Tensor, "B 3 S S"]
    back: Float[Tensor, "B 3 S S"]
    sides: Float[Tensor, "B 6 S S"]
    gap: Float[Tensor, "B S S"]


class Prior(nn.Module):
    """Pictures and their inflations to `PriorAnswer`."""

    def __init__(self, config: PriorConfig | None = None) -> None:
        super().__init__()
        self.config = config or PriorConfig()
        widths, blocks = self.config.widths, self.config.blocks
        self.patches = nn.Conv2d(INPUTS, widths[0], PATCH, PATCH)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Identity() if level == 0 else nn.Conv2d(widths[level - 1], width, 2, 2),
                *(_Residual(width) for _ in range(blocks[level])),
            )
            for level, width in enumerate(widths)
        )
        self.attention = nn.ModuleList(_Attention(widths[-1]) for _ in range(self.config.attention))
        self.place = nn.Parameter(torch.zeros(1, (SIZE // PATCH // 4) ** 2, widths[-1]))
        self.rise = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 1) for i in (1, 0))
        self.up = nn.ModuleList(_Residual(widths[i]) for i in (1, 0))
        self.head = nn.Conv2d(widths[0], sum(CHANNELS.values()) * PATCH**2, 1)
        _silence(self.head)

    def forward(self, rgba: Float[Tensor, "B 4 S S"], base: Float[Tensor, "B S S"]) -> PriorAnswer:
        """Args:
        rgba: sRGB-encoded in [0, 1], not multiplied by alpha.
        base: height of the plain inflation, `plain_heights`.
        """
        ground = base_depth(base)
        x = self.patches(_inputs(rgba, base))
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        shape = x.shape
        if len(self.attention):
            tokens = x.flatten(2).transpose(1, 2) + self.place
            for layer in self.attention:
                tokens = layer(tokens)
            x = tokens.transpose(1, 2).reshape(shape)
        for rise, block, skip in zip(self.rise, self.up, skips[-2::-1], strict=True):
            x = block(functional.interpolate(rise(x), scale_factor=2.0, mode="nearest") + skip)
        answer = functional.pixel_shuffle(self.head(x), PATCH)
        depth, spread, normals, back, sides, gap = answer.split(list(CHANNELS.values()), 1)
        facing = torch.cat([normals[:, :2], normals[:, 2:] + 1], 1)
        rgb = rgba[:, :3]
        return PriorAnswer(
            ground + depth,
            spread - 2,
            facing / facing.norm(dim=1, keepdim=True).clamp_min(1e-6),
            rgb + back,
            torch.cat([rgb, rgb], 1) + sides,
            gap[:, 0] - 2,
        )


def base_depth(base: Float[Tensor, "B S S"]) -> Float[Tensor, "B 2 S S"]:
    """Front and back of the inflation about an upright plane, seen from the bundle's front camera."""
    side = base.shape[-1]
    up = 1 - (torch.arange(side, device=base.device, dtype=base.dtype) + 0.5) * (2 / side)
    tilt = TILT * up[:, None]
    return torch.stack([tilt + base, tilt - base], 1)


def _inputs(rgba: Float[Tensor, "B 4 S S"], base: Float[Tensor, "B S S"]) -> Float[Tensor, "B 9 S S"]:
    side = base.shape[-1]
    alpha = rgba[:, 3:]
    line = ((torch.arange(side, device=base.device, dtype=base.dtype) + 0.5) * (2 / side) - 1).expand_as(base)
    across, along = (functional.pad(torch.diff(base, dim=dim), pad) for dim, pad in ((2, (0, 1)), (1, (0, 0, 0, 1))))
    planes = [2 * base, 8 * across, 8 * along, line, -line.transpose(1, 2)]
    return torch.cat([(rgba[:, :3] - 0.5) * alpha, alpha, torch.stack(planes, 1)], 1)


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Zeros, so that what the layer adds to is at first unchanged."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _silence(self.second)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        inner: Tensor = self.second(functional.silu(self.first(self.norm(x))))
        return x + inner


class _Attention(nn.Module):
    """Attention and a perceptron, each on normalised tokens (pre-norm)."""

    def __init__(self, width: int, head: int = 32) -> None:
        super().__init__()
        self.heads = next(n for n in range(max(1, width // head), 0, -1) if width % n == 0)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        for last in (self.out, self.narrow):
            _silence(last)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        batch, count, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        inner: Tensor = self.narrow(functional.gelu(self.wide(self.norms[1](x))))
        return x + inner
