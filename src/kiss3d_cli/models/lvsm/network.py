"""A transformer from posed pictures to the picture of another camera, without anything that knows of 3D but rays.

Pictures and Pluecker rays are cut into patches, a token each. The encoder-decoder reads the given pictures into a
fixed number of learned tokens, the scene, and draws every target from the scene and the target's rays; the
decoder-only network draws from the given pictures' own tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kiss3d_cli.models.lvsm.config import LvsmConfig

VIEW_PLANES = 10
"""Colour, mask and ray of a given picture."""
QUERY_PLANES = 11
"""Ray, and colour, mask and presence of what is guessed of the target already."""
PLANES = 4
"""Colour and mask of an answer."""
_SPREAD = 0.55
"""Standard deviation of the initial weights over 1 / sqrt(width): the 0.02 of the paper's width of 768. With 0.02 in a
small network the layers hardly add to their tokens, and all objects have the same scene for thousands of steps.
"""


class Lvsm(nn.Module):
    """Posed pictures to a scene, a scene and rays to a picture."""

    def __init__(self, config: LvsmConfig | None = None, *, checkpointing: bool = False) -> None:
        """Args:
        config: sizes.
        checkpointing: recompute every layer when gradients are taken, instead of keeping what it computed.
        """
        super().__init__()
        self.config = config = config or LvsmConfig()
        self.checkpointing = checkpointing
        self.views = nn.Linear(VIEW_PLANES * config.patch**2, config.width, bias=False)
        self.queries = nn.Linear(QUERY_PLANES * config.patch**2, config.width, bias=False)
        self.view_norm, self.query_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.latents = nn.Parameter(torch.randn(config.latents, config.width))  # as large as the tokens they read
        self.encoder = nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.encoder))
        self.scene_norm = nn.LayerNorm(config.width) if config.encoder else nn.Identity()
        self.decoder = nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.decoder))
        self.last_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, PLANES * config.patch**2)
        for stack in (self.encoder, self.decoder):
            for layer in stack:
                layer.start(len(stack))  # type: ignore[operator]
        for first in (self.views, self.queries):
            nn.init.normal_(first.weight, std=0.02)  # normalised at once
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, views: Float[Tensor, "B V 10 S S"], queries: Float[Tensor, "B T 11 S S"]
    ) -> Float[Tensor, "B T 4 S S"]:
        """See `encode` and `decode`."""
        return self.decode(self.encode(views), queries)

    def encode(self, views: Float[Tensor, "B V 10 S S"]) -> Float[Tensor, "B N C"]:
        """The scene that some posed pictures show, as N tokens.

        Args:
            views: of each, colour on white in [0, 1], mask, and rays as of `rays.pluecker`.
        """
        tokens = self.view_norm(self.views(_patches(views, self.config.patch))).flatten(1, 2)
        if not self.config.encoder:
            return tokens
        count = len(self.latents)
        latents = self.latents.to(tokens.dtype).expand(len(tokens), -1, -1)
        mixed = self._through(self.encoder, torch.cat([latents, tokens], 1))
        scene: Tensor = self.scene_norm(mixed[:, :count])
        return scene

    def decode(self, scene: Float[Tensor, "B N C"], queries: Float[Tensor, "B T 11 S S"]) -> Float[Tensor, "B T 4 S S"]:
        """Colour on white and mask from T cameras, each for itself; in [0, 1] but for what training has yet to learn.

        Args:
            scene: of `encode`; any number of tokens.
            queries: rays; then colour on white, mask and a plane of ones where the target is guessed already, zeros
                where not. What is guessed is corrected, not drawn anew.
        """
        asked = self.query_norm(self.queries(_patches(queries, self.config.patch)))
        targets, count = asked.shape[1:3]
        scenes = scene[:, None].expand(-1, targets, -1, -1)
        both = torch.cat([scenes.to(asked.dtype), asked], 2).flatten(0, 1)
        mixed = self._through(self.decoder, both)[:, -count:]
        drawn = _pictures(self.head(self.last_norm(mixed)), self.config.patch).unflatten(0, (-1, targets))
        guess, there = queries[:, :, 6:10], queries[:, :, 10:]
        white = torch.tensor([1.0, 1, 1, 0], device=queries.device)[:, None, None]
        return guess * there + white * (1 - there) + drawn

    def _through(self, layers: nn.ModuleList, tokens: Tensor) -> Tensor:
        for layer in layers:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(layer, tokens, use_reentrant=False)
            else:
                tokens = layer(tokens)
        return tokens


def _patches(planes: Float[Tensor, "B V C S S"], patch: int) -> Float[Tensor, "B V P D"]:
    """Each patch as one row, row by row."""
    rows = planes.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # B V C h p w p
    return rows.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)


def _pictures(rows: Float[Tensor, "B P D"], patch: int) -> Float[Tensor, "B 4 S S"]:
    side = round(rows.shape[1] ** 0.5)
    found = rows.reshape(len(rows), side, side, PLANES, patch, patch)
    return found.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class _Layer(nn.Module):
    """Attention and a perceptron, each on normalised tokens (pre-norm); queries and keys are normalised too, so that
    their products stay bounded (Henry et al. 2020).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query_norm, self.key_norm = nn.RMSNorm(width // heads, eps=1e-6), nn.RMSNorm(width // heads, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.wide = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def start(self, layers: int) -> None:
        """Weights of which a stack of so many layers keeps the size of its tokens."""
        spread = _SPREAD / self.out.out_features**0.5
        for inner in (self.qkv, self.wide):
            nn.init.normal_(inner.weight, std=spread)
        for outer in (self.out, self.narrow):
            nn.init.normal_(outer.weight, std=spread / (2 * layers) ** 0.5)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.query_norm(q.float()), self.key_norm(k.float())
        mixed = functional.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        inner: Tensor = self.narrow(functional.gelu(self.wide(self.norms[1](x))))
        return x + inner


def view_planes(rgba: Float[Tensor, "B V 4 S S"], rays: Float[Tensor, "B V 6 S S"]) -> Float[Tensor, "B V 10 S S"]:
    """What `encode` takes."""
    return torch.cat([rgba, rays], 2)


def query_planes(
    rays: Float[Tensor, "B T 6 S S"], guess: Float[Tensor, "B T 4 S S"] | None = None
) -> Float[Tensor, "B T 11 S S"]:
    """What `decode` takes.

    Args:
        guess: colour on white and mask of every target; None if nothing is guessed.
    """
    there = rays.new_zeros(*rays.shape[:2], 1, *rays.shape[3:])
    if guess is None:
        return torch.cat([rays, there.expand(-1, -1, 5, -1, -1)], 2)
    return torch.cat([rays, guess, there + 1], 2)
