"""Masked attention and cross-attention."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

HEADS = 4


class Attention(nn.Module):
    """Scaled dot products of several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, context: int, *, silent: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.both = nn.Linear(context, 2 * width)
        self.out = nn.Linear(width, width)
        if silent:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "B Q C"], context: Float[Tensor, "B T D"], there: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B Q C"]:
        """
        Args:
            x: who asks. context: who is asked; of them only those that are `there`, at least one of each row.
        """

        def heads(tokens: Float[Tensor, "B K C"]) -> Float[Tensor, "B h K c"]:
            return tokens.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        key, value = self.both(context).chunk(2, -1)
        found = functional.scaled_dot_product_attention(
            heads(self.query(x)), heads(key), heads(value), attn_mask=there[:, None, None]
        )
        return self.out(found.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention among tokens and a perceptron, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Float[Tensor, "B T C"], there: Bool[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        normal = self.norms[0](x)
        x = x + self.attention(normal, normal, there)
        return x + self.perceptron(self.norms[1](x))
