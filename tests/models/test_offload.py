"""Streaming blocks against the same networks wholly in memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kiss3d_cli.core.errors import OutOfMemory
from kiss3d_cli.models.runtime import offload
from kiss3d_cli.models.runtime.fp8 import Fp8Linear, quantize
from kiss3d_cli.models.runtime.offload import GIB, SLOTS, Block, Residence, module_bytes, plan_memory

CPU = torch.device("cpu")


class Net(nn.Module):
    """Blocks of unequal size with something before and after, like Flux."""

    def __init__(self, seed: int, blocks: int = 7) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(16, generator=random), requires_grad=False)
        self.blocks = nn.ModuleList()
        for i in range(blocks):
            hidden = 16 * (1 + i % 3)
            up = Fp8Linear(quantize(torch.randn(hidden, 16, generator=random)), torch.randn(hidden, generator=random))
            down = Fp8Linear(quantize(torch.randn(16, hidden, generator=random) / 9))
            self.blocks.append(nn.Sequential(nn.LayerNorm(16), up, nn.GELU(), down).requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.first
        for block in self.blocks:
            x = x + block(x)
        return x


def pair() -> dict[str, nn.Module]:
    return {"control": Net(1, 3), "main": Net(2)}


def run(models: dict[str, nn.Module], calls: list[str]) -> list[Tensor]:
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(9))
    outputs = []
    for name in calls:
        x = models[name](x) / 4
        outputs.append(x)
    return outputs


CALLS = ["control", "main", "control", "main", "main", "main"]


@pytest.mark.parametrize("forecast", [CALLS, [], CALLS[2:], ["main"] * 6], ids=["right", "none", "short", "wrong"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_streamed_equals_resident_bit_for_bit(share: float, forecast: list[str]) -> None:
    expected = run(pair(), CALLS)
    models = pair()
    blocks = [module_bytes(block) for model in models.values() for block in model.get_submodule("blocks")]
    fixed = sum(module_bytes(model) for model in models.values()) - sum(blocks)
    low, high = fixed + SLOTS * max(blocks), fixed + sum(blocks)
    limit = int(low + share * (high - low))
    with Residence(models, ["blocks"], CPU, limit=limit, working=0, what="it", poison=True) as residence:
        assert residence.plan.streamed
        assert residence.plan.device_bytes <= limit
        residence.expect(forecast)
        for got, wanted in zip(run(models, CALLS), expected, strict=True):
            assert torch.equal(got, wanted)
    for got, wanted in zip(run(models, CALLS), expected, strict=True):
        assert torch.equal(got, wanted), "after it, the networks are whole again"


def test_the_forecast_is_followed_by_prefetching(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pair()
    fetched: list[str] = []
    fetch = Residence._fetch
    monkeypatch.setattr(
        Residence, "_fetch", lambda self, name, slot: (fetched.append(name), fetch(self, name, slot))[1]
    )
    seen: list[int] = []
    limit = sum(module_bytes(m) for m in models.values()) - 1
    with Residence(models, ["blocks"], CPU, limit=limit, working=0, what="it") as residence:
        streamed = residence.plan.streamed
        assert len(streamed) >= 2
        for name in streamed:
            module = models[name.partition("/")[0]].get_submodule(name.partition("/")[2])
            module.register_forward_hook(lambda *_: seen.append(len(fetched)))
        residence.expect(["control", "main", "main"])
        run(models, ["control", "main", "main"])
    order = [n for c in ("control", "main", "main") for n in streamed if n.startswith(c)]
    assert fetched == order, "each block once, in the order of use"
    assert all(count >= min(done + SLOTS, len(order)) for done, count in enumerate(seen)), "always one ahead"


def test_everything_stays_if_it_fits() -> None:
    models = pair()
    with Residence(models, ["blocks"], CPU, limit=10**9, working=100, what="it") as residence:
        assert residence.plan.streamed == ()
        assert residence.plan.slot_bytes == 0
    assert plan_memory([Block("a", 5)], fixed=1, working=2, limit=None, what="it").device_bytes == 8


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=60),
    st.integers(0, 500),
    st.integers(0, 500),
    st.floats(0, 1),
)
@settings(deadline=None, max_examples=150)
def test_a_plan_fits_keeps_the_order_and_wastes_little(
    sizes: list[int], fixed: int, working: int, share: float
) -> None:
    blocks = [Block(str(i), size) for i, size in enumerate(sizes)]
    least = min(fixed + working + SLOTS * max(sizes), fixed + working + sum(sizes))
    limit = round(least + share * (fixed + working + sum(sizes) - least))
    plan = plan_memory(blocks, fixed=fixed, working=working, limit=limit, what="it")
    assert plan.least_bytes == least
    assert plan.device_bytes <= limit
    assert sorted([*plan.resident, *plan.streamed], key=int) == [block.name for block in blocks]
    assert list(plan.streamed) == sorted(plan.streamed, key=int)
    if plan.streamed:
        assert limit - plan.device_bytes < (SLOTS + 1) * max(sizes), "no more is streamed than must be"


def test_streamed_blocks_are_spread_evenly() -> None:
    blocks = [Block(str(i), 10) for i in range(60)]
    plan = plan_memory(blocks, fixed=0, working=0, limit=420, what="it")
    places = [int(name) for name in plan.streamed]
    assert len(places) == 20
    assert {b - a for a, b in itertools.pairwise(places)} == {3}


def test_too_small_a_limit_names_the_smallest_that_works() -> None:
    blocks = [Block(str(i), GIB) for i in range(8)]
    with pytest.raises(
        OutOfMemory, match=r"Flux can't work in 2\.00 GiB .* smallest that works is 3\.25 GiB"
    ) as caught:
        plan_memory(blocks, fixed=GIB, working=GIB // 4, limit=2 * GIB, what="Flux")
    assert caught.value.hint is not None
    assert "leave it 3.3 GiB" in caught.value.hint
    plan_memory(blocks, fixed=GIB, working=GIB // 4, limit=int(3.3 * GIB), what="Flux")


def test_tied_tensors_stay_tied_and_are_counted_once() -> None:
    shared = nn.Embedding(50, 4).requires_grad_(False)
    other = nn.Embedding(50, 4)
    other.weight = shared.weight
    model = nn.ModuleDict({"a": shared, "b": other, "blocks": nn.ModuleList()})
    with Residence({"m": model}, ["blocks"], CPU, limit=None, working=0, what="it") as residence:
        assert model["a"].weight.data_ptr() == model["b"].weight.data_ptr()
        assert residence.plan.fixed_bytes == 1024


def test_a_resident_block_lies_in_one_piece_and_keeps_its_values() -> None:
    block, same = (Net(3).blocks[1] for _ in range(2))
    offload._settle(block, CPU)
    parts = [*block.parameters(), *block.buffers()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in parts}) == 1
    assert parts[0].untyped_storage().nbytes() == module_bytes(same)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in parts)
    x = torch.randn(2, 16)
    assert torch.equal(block(x), same(x))


class Stream:
    """A stream that does nothing but know what is done before its next work (a vector clock)."""

    def __init__(self, _device: object = None) -> None:
        self.done = {self: 0}

    def work(self) -> tuple[Stream, int]:
        self.done[self] += 1
        return self, self.done[self]

    def comes_after(self, work: tuple[Stream, int] | None) -> bool:
        return work is None or self.done.get(work[0], 0) >= work[1]

    def wait_stream(self, other: Stream) -> None:
        self.done = {each: max(self.done.get(each, 0), other.done.get(each, 0)) for each in {*self.done, *other.done}}

    wait_event: Any = wait_stream


class Event:
    def __init__(self) -> None:
        self.done: dict[Stream, int] = {}

    def record(self, stream: Stream) -> None:
        self.done = dict(stream.done)


class Module:
    """Of a device on which work on different streams has no order but what events give it."""

    Stream, Event = Stream, Event

    def __init__(self) -> None:
        self.current = Stream()

    def current_stream(self, _device: object) -> Stream:
        return self.current

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def synchronize(self, _device: object) -> None:
        pass


@pytest.mark.parametrize("forecast", [CALLS, [], ["main"] * 6], ids=["right", "none", "wrong"])
def test_copies_and_arithmetic_on_two_streams_are_ordered(monkeypatch: pytest.MonkeyPatch, forecast: list[str]) -> None:
    """No slot is filled before the block in it is done, and none computes before its slot is full."""
    module = Module()
    arithmetic, streams, copy_to = module.current, offload._Streams, offload._HostBlock.copy_to
    before = arithmetic.work()  # of whoever had the slots' memory
    monkeypatch.setattr(torch, "get_device_module", lambda _device: module)
    monkeypatch.setattr(offload, "_Streams", lambda _device: streams(torch.device("cuda")))
    written: dict[int, tuple[Stream, int]] = {}
    read: dict[int, tuple[Stream, int]] = {}

    def copying(self: offload._HostBlock, slot: Tensor) -> None:
        assert module.current is not arithmetic
        assert module.current.comes_after(before)
        place = slot.data_ptr()
        assert module.current.comes_after(read.get(place)), "the block in the slot may still be computing"
        copy_to(self, slot)
        written[place] = module.current.work()

    def computing(norm: nn.Module, _inputs: object) -> None:
        place = norm.weight.untyped_storage().data_ptr()
        if place in written:
            assert module.current is arithmetic
            assert arithmetic.comes_after(written[place]), "the copy may still be under way"
            read[place] = arithmetic.work()

    monkeypatch.setattr(offload._HostBlock, "copy_to", copying)
    models = pair()
    for model in models.values():
        for block in model.get_submodule("blocks").children():
            next(block.children()).register_forward_pre_hook(computing)
    limit = sum(module_bytes(model) for model in models.values()) * 4 // 5
    with Residence(models, ["blocks"], CPU, limit=limit, working=0, what="it", poison=True) as residence:
        assert sum(name.startswith("main/") for name in residence.plan.streamed) >= SLOTS
        residence.expect(forecast)
        run(models, CALLS)
    assert len(read) == (SLOTS if forecast else 1)
    assert max(count for _stream, count in read.values()) > 2 * SLOTS, "a slot had several blocks"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_streaming_gives_the_same_bits_and_the_host_never_waits() -> None:
    device = torch.device("cuda")
    x = torch.randn(5, 16, device=device)
    models = pair()
    with Residence(models, ["blocks"], device, limit=None, working=0, what="it") as residence:
        least = residence.plan.least_bytes
        expected = models["main"](models["control"](x))
    models = pair()
    with Residence(models, ["blocks"], device, limit=least, working=0, what="it", poison=True) as residence:
        assert residence.plan.streamed
        residence.expect(["control", "main"] * 3)
        torch.cuda.set_sync_debug_mode("error")
        try:
            answers = [models["main"](models["control"](x)) for _ in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for answer in answers:
            assert torch.equal(answer, expected)
