"""Linear layers whose weight stays in 8 bits (float8 e4m3: 1 sign, 4 exponent, 3 mantissa bits; Micikevicius et al.,
"FP8 formats for deep learning", 2022) and is widened to the dtype of the activations for each call.

Cards before Ada have no fp8 arithmetic, so that the weight is 8 bits wide in memory and on the bus, and nowhere else.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

FP8 = torch.float8_e4m3fn
LARGEST = 448.0
SMALLEST_NORMAL = 2.0**-6
SMALLEST = 2.0**-9
DROPPED_BITS = 20
"""Mantissa bits that float32 has and e4m3 has not."""


@dataclasses.dataclass(frozen=True)
class Fp8Weight:
    """A weight as `codes * scale`; a scale of None is 1."""

    codes: Tensor
    scale: Tensor | None = None

    def widen(self, dtype: torch.dtype) -> Tensor:
        return widen(self.codes, self.scale, dtype)


def widen(codes: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The stored weight in a wider dtype: exact without a scale or with a power of two as scale, else rounded once."""
    wide = codes.to(dtype)
    # A tensor without dimensions leaves the dtype alone, and torch multiplies in float32 before it rounds.
    return wide if scale is None else wide * scale


def power_of_two_scale(values: Float[Tensor, "*shape"]) -> Tensor:
    """The smallest power of two by which `values` must be divided to fit into e4m3; 1 for a tensor of zeros.

    A power of two moves no rounding point and makes widening exact; any other scale would gain less than one binade
    of the 15 that e4m3 has.
    """
    largest = values.detach().abs().amax().float() if values.numel() else torch.zeros(())
    _mantissa, exponent = torch.frexp(largest / LARGEST)
    # frexp gives m in [0.5, 1): a ratio that is itself a power of two (m = 0.5) needs one binade less.
    exponent = exponent - (_mantissa == 0.5).to(exponent.dtype)
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), torch.ones_like(largest))


def quantize(values: Float[Tensor, "*shape"]) -> Fp8Weight:
    """Round to the nearest e4m3 under a per-tensor scale: to 1/16 of a value, or to 2^-10 of the scale."""
    scale = power_of_two_scale(values)
    return Fp8Weight((values.float() / scale).clamp(-LARGEST, LARGEST).to(FP8), scale)


def quantize_dithered(values: Float[Tensor, "rows columns"], scale: Tensor) -> Tensor:
    """Round to e4m3 so that small changes survive on average.

    Weights that are on e4m3's grid already, plus a change of less than half a step, would all round back to where they
    were: the change would be lost, not blurred. Here a value between two steps goes up as often as it is close to the
    upper one. What decides is a Weyl lattice over row and column, which is even over every stretch of a row and of a
    column, needs no random numbers, and is made of integers, so that every device agrees.

    Args:
        values: float32.
        scale: the power of two that the codes will be multiplied by.

    Returns:
        Codes of the shape of `values`; a value that is on the grid keeps its code.
    """
    rows, columns = values.shape
    scaled = (values / scale).clamp(-LARGEST, LARGEST)
    threshold = _weyl(rows, columns, values.device)
    # Down to the smallest normal number, e4m3's grid is float32's with the last mantissa bits cut off.
    bits = scaled.view(torch.int32)
    magnitude = bits & 0x7FFFFFFF
    raised = (magnitude + threshold) & -(1 << DROPPED_BITS)
    normal = raised.view(torch.float32).clamp(max=LARGEST)
    # Below, the steps are all alike.
    steps = magnitude.view(torch.float32) / SMALLEST
    subnormal = torch.floor(steps + threshold / float(1 << DROPPED_BITS)) * SMALLEST
    rounded = torch.where(magnitude.view(torch.float32) < SMALLEST_NORMAL, subnormal, normal)
    return torch.copysign(rounded, scaled).to(FP8)


def _weyl(rows: int, columns: int, device: torch.device) -> Int[Tensor, "rows columns"]:
    """Integers in [0, 2^20), spread evenly (the two-dimensional Weyl sequence of the plastic number)."""
    plastic = 1.32471795724474602596
    row_step, column_step = (round(2**20 / plastic**power) for power in (1, 2))
    i = torch.arange(rows, dtype=torch.int32, device=device) * row_step
    j = torch.arange(columns, dtype=torch.int32, device=device) * column_step
    return (i[:, None] + j[None, :]) & ((1 << DROPPED_BITS) - 1)


class Fp8Linear(nn.Module):
    """`x W^T + b` with W in fp8.

    Attributes:
        codes: (outputs, inputs) in e4m3.
        scale: a scalar that the codes are multiplied by, or None.
        bias: (outputs,) in the dtype of the activations, or None.
        weight: None. Networks that look at a layer's weight to choose a dtype for their activations find none.
    """

    codes: Tensor
    scale: Tensor | None
    bias: Tensor | None
    weight = None

    def __init__(self, weight: Fp8Weight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return functional.linear(x, widen(self.codes, self.scale, x.dtype), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, fp8"
