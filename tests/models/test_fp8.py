"""fp8 storage against an independent list of all 256 e4m3 numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from kiss3d_cli.models.runtime.fp8 import (
    FP8,
    Fp8Linear,
    Fp8Weight,
    power_of_two_scale,
    quantize,
    quantize_change,
    widen,
)


def e4m3(code: int) -> float:
    """The number behind a code, from the format's definition: bias 7, no infinity, NaN where all other bits are set."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = (code >> 3) & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


NUMBERS = torch.tensor([e4m3(code) for code in range(256)], dtype=torch.float64)
FINITE = NUMBERS[~NUMBERS.isnan()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_code_widens_exactly(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(FP8)
    wide = widen(codes, None, dtype).double()
    torch.testing.assert_close(wide, NUMBERS, rtol=0, atol=0, equal_nan=True)
    scaled = widen(codes, torch.tensor(2.0**-5), dtype)
    assert scaled.dtype == dtype
    torch.testing.assert_close(scaled.double()[:127], NUMBERS[:127] / 32, rtol=0, atol=0)


def test_quantize_takes_the_nearest_number() -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(3)) * torch.logspace(-4, 3, 4000)
    weight = quantize(values)
    assert weight.scale is not None
    scale = float(weight.scale)
    distance = (values.double()[:, None] / scale - FINITE).abs()
    chosen = (values.double() / scale - weight.codes.double()).abs()
    torch.testing.assert_close(chosen, distance.amin(1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("largest", "scale"), [(448.0, 1.0), (449.0, 2.0), (1.0, 1 / 256), (1.75, 1 / 256), (1.7501, 1 / 128), (0.0, 1.0)]
)
def test_the_scale_is_the_smallest_power_of_two_that_fits(largest: float, scale: float) -> None:
    assert float(power_of_two_scale(torch.tensor([0.0, -largest, largest / 3]))) == scale


def test_requantizing_changes_nothing() -> None:
    codes = torch.arange(0, 127, dtype=torch.uint8).view(FP8).reshape(1, 127)
    again = quantize(codes.float())
    assert again.scale == 1.0
    assert torch.equal(again.codes.view(torch.uint8), codes.view(torch.uint8))
    unchanged = quantize_change(codes.float(), torch.zeros(1, 127))
    assert torch.equal(unchanged.widen(torch.float32), codes.float())


@pytest.mark.parametrize("strength", [0.003, 0.01, 0.05, 0.3])
def test_a_small_change_keeps_its_effect(strength: float) -> None:
    random = torch.Generator().manual_seed(0)
    base = quantize(torch.randn(256, 256, generator=random))
    before = base.widen(torch.float32)
    up, down = torch.randn(256, 4, generator=random), torch.randn(4, 256, generator=random)
    change = strength * up @ down / 2
    x = torch.randn(64, 256, generator=random) + torch.randn(64, 4, generator=random) @ down
    wanted = x @ change.T

    def gain(widened: torch.Tensor) -> float:
        return float(((x @ (widened - before).T) * wanted).sum() / wanted.square().sum())

    folded = quantize_change(before, change).widen(torch.float32)
    assert abs(gain(folded) - 1) < 0.05
    nearest = quantize(before + change).widen(torch.float32)
    if strength < 0.02:
        assert gain(nearest) < 0.7, "what plain rounding leaves of it"
    # the price; rounding up or down at random pays about twice as much
    assert (folded - before - change).norm() < 2 * (nearest - before - change).norm() + 1e-6
    # every weight is at most about one step of its own from where it should be
    step = before.abs().clamp_min(1e-3) / 4
    assert ((folded - before - change).abs() <= torch.maximum(step, 10 * change.abs())).all()


def test_where_the_range_was_not_used_the_grid_becomes_finer() -> None:
    codes = (torch.randn(64, 64, generator=torch.Generator().manual_seed(2)) * 0.02).to(FP8)
    folded = quantize_change(codes.float(), torch.full((64, 64), 1e-3))
    assert folded.scale is not None
    assert folded.scale < 1e-3
    assert (folded.widen(torch.float32) - codes.float() - 1e-3).abs().max() < 0.003


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_a_linear_layer_of_the_widened_weight(bias: bool) -> None:
    random = torch.Generator().manual_seed(1)
    weight = quantize(torch.randn(5, 7, generator=random))
    offset = torch.randn(5, generator=random) if bias else None
    layer = Fp8Linear(weight, offset)
    x = torch.randn(2, 3, 7, generator=random)
    assert torch.equal(layer(x), functional.linear(x, weight.widen(torch.float32), offset))
    half = layer(x.bfloat16()) if not bias else Fp8Linear(weight, offset.bfloat16())(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert layer.codes.dtype == FP8
    assert sum(p.numel() for p in layer.parameters()) == 0


def test_the_layer_keeps_its_scale_where_torch_multiplies_in_float32() -> None:
    codes = torch.tensor([[1.0, 1.375]]).to(FP8)
    assert Fp8Linear(Fp8Weight(codes, torch.tensor(1.0))).scale is None, "one pass over the weights less"
    layer = Fp8Linear(Fp8Weight(codes, torch.tensor(0.3)))
    assert [name for name, _ in layer.named_buffers()] == ["codes"], "what moves to the GPU"
    assert layer.scale == torch.tensor(0.3)
    x = torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16)
    assert layer(x) == torch.tensor(0.3 * 1.375, dtype=torch.bfloat16)
    assert layer(x) != torch.tensor(0.3, dtype=torch.bfloat16) * torch.tensor(1.375, dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_widens_to_the_same_bits(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(FP8)
    for scale in (None, 0.3, 1 / 448, 2.0**-9):
        here, there = widen(codes, scale, dtype), widen(codes.cuda(), scale, dtype).cpu()
        torch.testing.assert_close(there, here, rtol=0, atol=0, equal_nan=True)


def test_the_layer_shares_the_stored_codes() -> None:
    codes = torch.zeros(4, 4, dtype=FP8)
    assert Fp8Linear(Fp8Weight(codes)).codes.data_ptr() == codes.data_ptr()
