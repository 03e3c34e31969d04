"""Linear layers whose weight stays in 8 bits (float8 e4m3: 1 sign, 4 exponent, 3 mantissa bits; Micikevicius et al.,
"FP8 formats for deep learning", 2022) and is widened to the dtype of the activations for each call.

Cards before Ada have no fp8 arithmetic, so that the weight is 8 bits wide in memory and on the bus, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

FP8 = torch.float8_e4m3fn
LARGEST = 448.0


@dataclasses.dataclass(frozen=True)
class Fp8Weight:
    """A weight as `codes * scale`; a scale of None is 1."""

    codes: Tensor
    scale: Tensor | None = None

    def widen(self, dtype: torch.dtype) -> Tensor:
        return widen(self.codes, self.scale, dtype)


def widen(codes: Tensor, scale: Tensor | float | None, dtype: torch.dtype) -> Tensor:
    """The stored weight in a wider dtype: exact without a scale or with a power of two as scale, else rounded once.

    Once, that is, on the host, or with a number as scale: it leaves the dtype alone, and torch multiplies in float32
    before it rounds. A scale in a GPU's memory is itself rounded to the dtype first.
    """
    wide = codes.to(dtype)
    return wide if scale is None else wide * scale


def power_of_two_scale(values: Float[Tensor, "*shape"]) -> Tensor:
    """The smallest power of two by which `values` must be divided to fit into e4m3; 1 for a tensor of zeros.

    A power of two moves no rounding point and makes widening exact; any other scale would gain less than one binade
    of the 15 that e4m3 has.
    """
    # on the host: a device's power function need not be exact
    mantissa, exponent = math.frexp(float(values.detach().abs().amax()) / LARGEST if values.numel() else 0.0)
    # frexp gives m in [0.5, 1): a ratio that is itself a power of two (m = 0.5) needs one binade less
    scale = 1.0 if mantissa == 0 else math.ldexp(1.0, exponent - (mantissa == 0.5))
    return torch.full((), scale, dtype=torch.float32, device=values.device)


def quantize(values: Float[Tensor, "*shape"]) -> Fp8Weight:
    """Round to the nearest e4m3 under a per-tensor scale: to 1/16 of a value, or to 2^-10 of the scale."""
    scale = power_of_two_scale(values)
    return Fp8Weight((values.float() / scale).clamp(-LARGEST, LARGEST).to(FP8), scale)


SAMPLE = 2**18
"""Weights that the multiplier of `quantize_change` is found on."""
MULTIPLIERS = (1.0, 64.0)


def quantize_change(before: Float[Tensor, "rows columns"], change: Float[Tensor, "rows columns"]) -> Fp8Weight:
    """`before + change` in e4m3 where `before` is on e4m3's grid and the change is small: its effect survives.

    Plain rounding brings every weight that moves by less than half a step back to where it was, and most of a small
    change is lost. Among all ways to move weights to neighbouring numbers so that the move, projected on the change,
    is as long as the change, the one of least squared error moves those for which change / step is largest (the
    Lagrangian of the two); that is rounding `before + m * change` to the nearest, for one multiplier m >= 1. Rounding
    up or down at random would be right on average as well, at about twice the error.

    Args:
        before: float32.
        change: float32.

    Returns:
        Codes under the smallest power of two as scale that holds the sum.
    """
    step = power_of_two_scale(before + change)

    def rounded(values: Tensor) -> Tensor:
        return (values / step).clamp(-LARGEST, LARGEST).to(FP8)

    every = -(-before.numel() // SAMPLE)  # rows of the sample, spread over the matrix
    some, wanted = before[::every], change[::every]
    length = wanted.square().sum(dtype=torch.float64)
    low, high = MULTIPLIERS
    for _ in range(12):
        middle = (low * high) ** 0.5
        moved = widen(rounded(some + middle * wanted), step, torch.float32) - some
        if bool((moved * wanted).sum(dtype=torch.float64) < length):
            low = middle
        else:
            high = middle
    multiplier = low if low == 1.0 else (low * high) ** 0.5
    return Fp8Weight(rounded(before + multiplier * change), step)


class Fp8Linear(nn.Module):
    """`x W^T + b` with W in fp8.

    Attributes:
        codes: (outputs, inputs) in e4m3.
        scale: a number that the codes are multiplied by, or None for 1. Not a tensor: it would go to the GPU.
        bias: (outputs,) in the dtype of the activations, or None.
        weight: None. Networks that look at a layer's weight to choose a dtype for their activations find none.
    """

    codes: Tensor
    scale: float | None
    bias: Tensor | None
    weight = None

    def __init__(self, weight: Fp8Weight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.register_buffer("codes", weight.codes)
        scale = 1.0 if weight.scale is None else float(weight.scale)
        self.scale = None if scale == 1 else scale
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return functional.linear(x, widen(self.codes, self.scale, x.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, fp8"
