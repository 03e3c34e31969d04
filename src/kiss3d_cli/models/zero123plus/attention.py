"""Reference attention: self-attention that also looks at what a second picture's pass recorded.

Zero123++ (Shi et al. 2023, arXiv 2310.15110, section 2.2): the noised condition picture goes through the UNet first;
then each self-attention of the denoising pass attends to its own tokens and to those that the condition had there.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


class Pass(Enum):
    """What the self-attentions do with the reference."""

    PLAIN = "plain"
    """Nothing: plain self-attention."""
    RECORD = "record"
    """Attend to themselves and keep their keys and values."""
    READ = "read"
    """Attend to themselves and to what was kept, and let go of it."""


class _Reference(NamedTuple):
    keys: Tensor
    values: Tensor


class ReferenceAttention:
    """The attention processor of one self-attention layer.

    Keys and values are linear in the tokens, so those of the reference are kept as they were computed in its own pass:
    the same as projecting the two token sequences set side by side, at half the cost.
    """

    def __init__(self) -> None:
        self.mode = Pass.PLAIN
        self._kept: _Reference | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "B N C"],
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_options: object,
    ) -> Float[Tensor, "B N C"]:
        assert encoder_hidden_states is None, "reference attention is for self-attention"
        assert attention_mask is None, "Zero123++ masks no token"
        query, keys, values = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if self.mode is Pass.RECORD:
            self._kept = _Reference(keys, values)
        elif self.mode is Pass.READ:
            assert self._kept is not None, "the reference's pass comes before the pass that reads it"
            keys = torch.cat([keys, self._kept.keys], dim=1)
            values = torch.cat([values, self._kept.values], dim=1)
            self._kept = None
        query, keys, values = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (query, keys, values))
        mixed = functional.scaled_dot_product_attention(query, keys, values, scale=attn.scale)
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class ReferenceUnet:
    """A UNet whose self-attentions look at a reference.

    Args:
        unet: a UNet2DConditionModel; its self-attention processors are replaced.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self.layers = {name: ReferenceAttention() for name in unet.attn_processors if name.endswith("attn1.processor")}
        unet.set_attn_processor({**unet.attn_processors, **self.layers})

    def __call__(
        self,
        sample: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "B C h w"],
        timestep: Tensor,
        embeddings: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B C H W"]:
        """The network's output for `sample`, which attends to `reference`; row by row, both at the same noise level."""
        try:
            self._set(Pass.RECORD)
            self.unet(reference, timestep, encoder_hidden_states=embeddings, return_dict=False)
            self._set(Pass.READ)
            return self.unet(sample, timestep, encoder_hidden_states=embeddings, return_dict=False)[0]
        finally:
            self._set(Pass.PLAIN)

    def _set(self, mode: Pass) -> None:
        for layer in self.layers.values():
            layer.mode = mode
