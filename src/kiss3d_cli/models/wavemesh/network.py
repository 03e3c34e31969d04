"""A sparse U-Net over wavelet coefficients that says what is noise in them, given pictures and the visual hull.

What is generated is the difference between the object's coefficients and those of its visual hull, at the sites that
the hull allows: where coefficients are is so known before anything is generated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kiss3d_cli.models.wavemesh.attention import Attention
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.encoder import Lifting, Seen, ViewEncoder
from kiss3d_cli.models.wavemesh.sites import Down, SiteConvolution, Sites, Up, pyramid
from kiss3d_cli.models.wavemesh.views import PosedImages

TIME = 256
"""Width of the time embedding."""
BOUND = 1.05
"""Half the side of the volume, in world units."""


@dataclass(frozen=True)
class Condition:
    """What is known of B objects before anything is generated.

    Attributes:
        levels: their sites, finest first.
        hull: (N, K) the hull's coefficients less those of empty space, in units of `WaveMesh.scale`.
        lifted: (N, C) features of the pictures at the sites. seen: the pictures' tokens and pooled vector.
    """

    levels: list[Sites]
    hull: Float[Tensor, "N K"]
    lifted: Float[Tensor, "N C"]
    seen: Seen


@dataclass(frozen=True)
class Learned:
    """What the network says about noised coefficients, and what is right; N sites of B objects.

    Attributes:
        said, target: as `WaveMeshConfig.prediction` names it.
        difference, guess: to the hull's coefficients, true and as `said` implies.
        volume: truncated signed distances that the guess means.
        sites: where.
    """

    said: Float[Tensor, "N K"]
    target: Float[Tensor, "N K"]
    difference: Float[Tensor, "N K"]
    guess: Float[Tensor, "N K"]
    volume: Float[Tensor, "B R R R"]
    sites: Sites


class WaveMesh(nn.Module):
    """Coefficients, time and condition to what `WaveMeshConfig.prediction` names.

    `forward` is the training's pass; `condition` and `denoise` are what sampling calls.

    Attributes:
        scale: (K,) the usual size of each channel's difference to the hull's coefficients.
    """

    scale: Tensor

    def __init__(self, config: WaveMeshConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WaveMeshConfig()
        channels, widths = config.transform.channels, config.widths
        side = config.transform.side
        self.register_buffer("scale", torch.ones(channels))
        self.encoder = ViewEncoder(config)
        self.lifting = Lifting(config)
        self.nothing = nn.Parameter(0.02 * torch.randn(config.lifted))
        self.no_picture = nn.Parameter(0.02 * torch.randn(config.patch_width))
        self.time = nn.Sequential(nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME))
        self.pooled = nn.Linear(config.patch_width, TIME)
        self.enter = nn.Linear(2 * channels + config.lifted + 3, widths[0])
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.shrink = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(Up(b, a) for a, b in pairwise(widths))
        for number, width in enumerate(widths):
            cells = side // 2**number
            self.down.append(_Stage(width, config, cells))
            if number + 1 < len(widths):
                self.up.append(_Stage(width, config, cells))
        self.norm = nn.LayerNorm(widths[0])
        self.leave = nn.Linear(widths[0], channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @property
    def places(self) -> Float[Tensor, "P 3"]:
        """The middles of all cells of the sites' grid, in the world."""
        side = self.config.transform.side
        line = (torch.arange(side, device=self.scale.device) + 0.5) * (2 * BOUND / side) - BOUND
        return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)

    def occupied(self, hull: Float[Tensor, "B R R R"]) -> Bool[Tensor, "B G G G"]:
        """The sites that matter inside a hull: outside of it every distance is beyond the truncation.

        Args:
            hull: truncated signed distances to the visual hull, which holds the object.
        """
        near = (hull < 1).float()[:, None]
        around = self.config.active
        if around:
            near = functional.max_pool3d(near, 2 * around + 1, 1, around)
        return functional.max_pool3d(near, 2**self.config.level)[:, 0] > 0

    def coefficients(self, volume: Float[Tensor, "B R R R"], sites: Sites) -> Float[Tensor, "N K"]:
        """A volume's coefficients less those of empty space, at the sites, in units of `scale`."""
        with torch.autocast(volume.device.type, enabled=False):
            return sites.of_grid(self.config.transform.analyse(volume.float() - 1)) / self.scale

    def volume(self, coefficients: Float[Tensor, "N K"], sites: Sites) -> Float[Tensor, "B R R R"]:
        """The inverse of `coefficients`: empty space where there is no site."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return self.config.transform.synthesise(sites.to_grid(coefficients.float() * self.scale)) + 1

    def condition(
        self,
        hull: Float[Tensor, "B R R R"],
        images: PosedImages,
        dropped: Bool[Tensor, " B"] | None = None,
    ) -> Condition:
        """
        Args:
            hull: truncated signed distances to the visual hull of the views' masks.
            images: the views.
            dropped: objects whose pictures are hidden, for guidance; the hull stays.

        Raises:
            BadInput: the hull of an object is empty.
        """
        levels = pyramid(self.occupied(hull), len(self.config.widths))
        sites = levels[0]
        seen = self.encoder(images)
        lifted = sites.of_grid(self.lifting(seen, self.places))
        if dropped is not None:
            lifted = torch.where(dropped[sites.owner, None], self.nothing.to(lifted.dtype), lifted)
            absent = self.no_picture.to(seen.tokens.dtype)
            tokens = torch.where(dropped[:, None, None], absent, seen.tokens)
            pooled = torch.where(dropped[:, None], absent, seen.pooled)
            seen = Seen(pooled, tokens, seen.there, seen.maps, seen.images)
        return Condition(levels, self.coefficients(hull, sites), lifted, seen)

    def forward(
        self,
        truth: Float[Tensor, "B R R R"],
        hull: Float[Tensor, "B R R R"],
        images: PosedImages,
        dropped: Bool[Tensor, " B"],
        times: Int[Tensor, " B"],
        noise: Float[Tensor, "B P K"],
    ) -> Learned:
        """The network's answer about true volumes that are noised.

        Args:
            truth: truncated signed distances. hull, images, dropped: see `condition`.
            times: of the diffusion, one for each object.
            noise: for every cell of the sites' grid, whether it is occupied or not.
        """
        diffusion = self.config.diffusion
        given = self.condition(hull, images, dropped)
        sites = given.levels[0]
        difference = self.coefficients(truth, sites) - given.hull
        drawn = noise.flatten(0, 1).index_select(0, sites.index)
        signal, rest = (level[sites.owner, None] for level in diffusion.levels(times))
        noised = diffusion.noised(difference, drawn, signal, rest)
        said = self.denoise(noised, times, given).float()
        guess = diffusion.origin(said, noised, signal, rest)
        volume = self.volume(given.hull + guess, sites)
        return Learned(said, diffusion.target(difference, drawn, signal, rest), difference, guess, volume, sites)

    def denoise(self, x: Float[Tensor, "N K"], times: Int[Tensor, " B"], given: Condition) -> Float[Tensor, "N K"]:
        """
        Args:
            x: noised differences to the hull's coefficients, at the finest sites.
            times: of the diffusion, one for each object.
        """
        levels = given.levels
        sites = levels[0]
        embedded = self.time(time_embedding(times, self.config.steps).to(x.dtype)) + self.pooled(given.seen.pooled)
        embedded = functional.silu(embedded)
        where = self.places.to(x.dtype).index_select(0, sites.index % sites.side**3)
        h = self.enter(torch.cat([x, given.hull.to(x.dtype), given.lifted.to(x.dtype), where], 1))
        skips = []
        for number, stage in enumerate(self.down):
            if number:
                h = self.shrink[number - 1](h, levels[number - 1], levels[number])
            h = stage(h, embedded, levels[number], given.seen)
            skips.append(h)
        for number in reversed(range(len(self.up))):
            h = self.grow[number](h, levels[number]) + skips[number]
            h = self.up[number](h, embedded, levels[number], given.seen)
        return self.leave(functional.silu(self.norm(h)))


def time_embedding(times: Int[Tensor, " B"], steps: int) -> Float[Tensor, "B 256"]:
    """Sines and cosines of the time (Vaswani et al. 2017), of 1,000 steps."""
    half = TIME // 2
    rate = torch.exp(-math.log(10_000) * torch.arange(half, device=times.device) / half)
    angle = times[:, None] * (1000 / steps) * rate
    return torch.cat([angle.cos(), angle.sin()], 1)


class _Stage(nn.Module):
    """Residual blocks; on coarse grids attention among the sites and to the pictures."""

    def __init__(self, width: int, config: WaveMeshConfig, cells: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width) for _ in range(max(1, config.blocks)))
        self.attention = _Attention(width, config.patch_width, cells) if cells <= config.attention else None

    def forward(
        self, h: Float[Tensor, "N C"], embedded: Float[Tensor, "B E"], sites: Sites, seen: Seen
    ) -> Float[Tensor, "N C"]:
        for block in self.blocks:
            h = block(h, embedded, sites)
        return h if self.attention is None else self.attention(h, sites, seen)


class _Block(nn.Module):
    """Two convolutions, each after a layer norm whose scale and shift the embedding says (Peebles and Xie 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.Linear(TIME, 4 * width)
        nn.init.zeros_(self.norms.weight)
        nn.init.zeros_(self.norms.bias)
        self.first = SiteConvolution(width, width)
        self.second = SiteConvolution(width, width, silent=True)

    def forward(self, h: Float[Tensor, "N C"], embedded: Float[Tensor, "B E"], sites: Sites) -> Float[Tensor, "N C"]:
        owner = sites.owner
        first_scale, first_shift, scale, shift = self.norms(embedded).chunk(4, -1)
        x = _modulated(h, first_scale, first_shift, owner)
        x = self.first(functional.silu(x), sites)
        x = _modulated(x, scale, shift, owner)
        return h + self.second(functional.silu(x), sites)


def _modulated(h: Float[Tensor, "N C"], scale: Tensor, shift: Tensor, owner: Int[Tensor, " N"]) -> Float[Tensor, "N C"]:
    normal = functional.layer_norm(h, h.shape[-1:])
    return normal * (1 + scale.index_select(0, owner)) + shift.index_select(0, owner)


class _Attention(nn.Module):
    """Among an object's sites, then from its sites to its pictures' tokens."""

    def __init__(self, width: int, tokens: int, cells: int) -> None:
        super().__init__()
        self.place = nn.Parameter(0.02 * torch.randn(1, cells**3, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.own = Attention(width, width, silent=True)
        self.pictures = Attention(width, tokens, silent=True)

    def forward(self, h: Float[Tensor, "N C"], sites: Sites, seen: Seen) -> Float[Tensor, "N C"]:
        grid = sites.to_grid(h).flatten(1, 3)
        there = sites.to_grid(torch.ones_like(h[:, :1])).flatten(1) > 0
        x = self.norms[0](grid) + self.place.to(grid.dtype)
        grid = grid + self.own(x, x, there)
        x = self.norms[1](grid) + self.place.to(grid.dtype)
        grid = grid + self.pictures(x, seen.tokens.to(x.dtype), seen.there)
        return sites.of_grid(grid)
