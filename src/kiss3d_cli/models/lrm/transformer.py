"""The triplane transformer: image tokens to three feature planes (Hong et al., LRM, 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kiss3d_cli.models.lrm.config import LrmConfig

INNER_NORM_EPS, LAST_NORM_EPS = 1e-5, 1e-6


class CrossAttention(nn.Module):
    """Attention of the plane tokens to the image tokens, without biases."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj_weight = nn.Parameter(torch.empty(width, width))
        self.k_proj_weight = nn.Parameter(torch.empty(width, context_width))
        self.v_proj_weight = nn.Parameter(torch.empty(width, context_width))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Float[Tensor, "1 T C"], context: Float[Tensor, "1 S D"]) -> Float[Tensor, "1 T C"]:
        query = F.linear(tokens, self.q_proj_weight)
        key, value = F.linear(context, self.k_proj_weight), F.linear(context, self.v_proj_weight)
        return self.out_proj(_attend(query, key, value, self.heads))


class SelfAttention(nn.Module):
    """Attention among the plane tokens, without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Float[Tensor, "1 T C"]) -> Float[Tensor, "1 T C"]:
        query, key, value = F.linear(tokens, self.in_proj_weight).chunk(3, -1)
        return self.out_proj(_attend(query, key, value, self.heads))


def _attend(
    query: Float[Tensor, "1 T C"], key: Float[Tensor, "1 S C"], value: Float[Tensor, "1 S C"], heads: int
) -> Float[Tensor, "1 T C"]:
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Layer(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=INNER_NORM_EPS)
        self.cross_attn = CrossAttention(width, config.encoder_width, config.heads)
        self.norm2 = nn.LayerNorm(width, eps=INNER_NORM_EPS)
        self.self_attn = SelfAttention(width, config.heads)
        self.norm3 = nn.LayerNorm(width, eps=INNER_NORM_EPS)
        # The checkpoint counts a dropout as entry 2.
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, tokens: Float[Tensor, "1 T C"], context: Float[Tensor, "1 S D"]) -> Float[Tensor, "1 T C"]:
        tokens = tokens + self.cross_attn(self.norm1(tokens), context)
        tokens = tokens + self.self_attn(self.norm2(tokens))
        return tokens + self.mlp(self.norm3(tokens))


class TriplaneTransformer(nn.Module):
    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.side = config.plane_tokens
        self.pos_embed = nn.Parameter(torch.zeros(1, 3 * self.side**2, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=LAST_NORM_EPS)
        self.deconv = nn.ConvTranspose2d(config.width, config.plane_channels, 2, stride=2)

    def forward(self, context: Float[Tensor, "S D"]) -> Float[Tensor, "3 C R R"]:
        """Feature planes from the tokens of all views."""
        tokens = self.pos_embed
        for layer in self.layers:
            tokens = layer(tokens, context[None])
        planes = self.norm(tokens).reshape(3, self.side, self.side, -1)
        return self.deconv(planes.permute(0, 3, 1, 2))
