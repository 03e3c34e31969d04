"""Networks larger than the device's memory: part of their blocks live there, the others pass through two slots of it.

The plan is made from sizes alone. While one streamed block computes, the next is copied from page-locked host memory on
a stream of its own; the host never waits for the device. The streamed blocks are spread evenly over the resident ones,
so that every copy has the arithmetic of several blocks to hide behind. On the CPU the same plan runs with plain copies.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kiss3d_cli.core.errors import OutOfMemory
from kiss3d_cli.models.runtime.weights import tensors

GIB = 2**30
SLOTS = 2
ALIGNMENT = 256
PINNED_CHUNK = 2**30
"""Page-locked memory is taken by the GiB: torch rounds each request up to a power of two."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a network that can be streamed."""

    name: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """What stays on the device and what passes through it.

    Attributes:
        resident, streamed: names of blocks, in the order in which they are called.
        fixed_bytes: everything that is not a block; always on the device.
        resident_bytes, streamed_bytes: of those blocks.
        slot_bytes: of each of the two slots; 0 if nothing is streamed.
        working_bytes: what activations need.
        least_bytes: the smallest limit for which there is a plan.
    """

    resident: tuple[str, ...]
    streamed: tuple[str, ...]
    fixed_bytes: int
    resident_bytes: int
    streamed_bytes: int
    slot_bytes: int
    working_bytes: int
    least_bytes: int

    @property
    def device_bytes(self) -> int:
        """The most memory that the device will use."""
        return self.fixed_bytes + self.resident_bytes + SLOTS * self.slot_bytes + self.working_bytes


def plan_memory(blocks: Sequence[Block], *, fixed: int, working: int, limit: int | None, what: str) -> MemoryPlan:
    """Decide which blocks stay.

    Args:
        blocks: in the order in which they are called.
        fixed: bytes of everything else.
        working: bytes that activations need.
        limit: bytes of the device; None for no limit.
        what: the networks' name in messages.

    Raises:
        OutOfMemory: the limit is too small even if every block is streamed; names the smallest that works.
    """
    total = sum(block.bytes for block in blocks)
    largest = max((block.bytes for block in blocks), default=0)
    everything = fixed + total + working
    least = min(everything, fixed + working + SLOTS * largest)
    if limit is None or everything <= limit:
        names = tuple(block.name for block in blocks)
        return MemoryPlan(names, (), fixed, total, 0, 0, working, least)
    if limit < least:
        raise OutOfMemory(
            f"{what} can't work in {limit / GIB:.2f} GiB of video memory; the smallest that works is "
            f"{least / GIB:.2f} GiB",
            place="device.memory_limit",
            hint=f"leave it {_up(least)} GiB (close what else is on the GPU, set device.memory_limit no lower), or use "
            "a smaller bundle.tile, or --set bundle.method=reference",
        )
    share = (everything + SLOTS * largest - limit) / total
    resident, streamed = [], []
    passed = gone = 0
    for block in blocks:
        passed += block.bytes
        if gone < share * passed:
            streamed.append(block)
            gone += block.bytes
        else:
            resident.append(block)
    return MemoryPlan(
        tuple(block.name for block in resident),
        tuple(block.name for block in streamed),
        fixed,
        total - gone,
        gone,
        max(block.bytes for block in streamed),
        working,
        least,
    )


def _up(size: int) -> str:
    """GiB, rounded up to a tenth."""
    return f"{-(-size * 10 // GIB) / 10:g}"


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A tensor of a block: who owns it, under which name, and where in the block's bytes it is."""

    owner: nn.Module
    key: str
    offset: int
    tensor: Tensor

    def put(self, tensor: Tensor) -> None:
        if self.key in self.owner._parameters:
            self.owner._parameters[self.key] = nn.Parameter(tensor, requires_grad=False)
        else:
            self.owner._buffers[self.key] = tensor

    def view(self, memory: Tensor) -> Tensor:
        flat = memory[self.offset : self.offset + self.tensor.nbytes]
        return flat.view(self.tensor.dtype).view(self.tensor.shape)


def _packed(module: nn.Module) -> tuple[list[_Packed], int]:
    parts, end = [], 0
    for owner, key, tensor in tensors(module):
        parts.append(_Packed(owner, key, end, tensor))
        end += _aligned(tensor.nbytes)
    return parts, end


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _settle(block: nn.Module, device: torch.device) -> None:
    """Move a block to the device for good, in one piece of its memory.

    Tensor by tensor, torch's allocator would put two of 9 MiB into every 20 MiB and lose a tenth of them, which no
    plan counts.
    """
    parts, size = _packed(block)
    piece = torch.empty(size, dtype=torch.uint8, device=device)
    for part in parts:
        part.put(part.view(piece).copy_(part.tensor))


def module_bytes(module: nn.Module) -> int:
    """What a network's tensors take on a device."""
    return _packed(module)[1]


@dataclasses.dataclass(frozen=True)
class _HostBlock:
    """A streamed block in host memory: its tensors and, if they lie in one page-locked piece, that piece."""

    packed: list[_Packed]
    piece: Tensor | None

    def copy_to(self, slot: Tensor) -> None:
        if self.piece is not None:
            slot[: self.piece.numel()].copy_(self.piece, non_blocking=True)
            return
        for part in self.packed:
            part.view(slot).copy_(part.tensor)


class _HostMemory:
    """Page-locked memory for streamed blocks; where the system gives none, blocks stay in the mapped file."""

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type not in ("cpu", "mps")
        self._chunk = torch.empty(0, dtype=torch.uint8)

    def keep(self, parts: list[_Packed], size: int) -> _HostBlock:
        piece = self._take(size) if self._pinned else None
        if piece is None:
            return _HostBlock(parts, None)
        kept = [dataclasses.replace(part, tensor=part.view(piece).copy_(part.tensor)) for part in parts]
        for part in kept:
            part.put(part.tensor)  # nothing holds the mapped file any more
        return _HostBlock(kept, piece)

    def _take(self, size: int) -> Tensor | None:
        if self._chunk.numel() < size:
            try:
                self._chunk = torch.empty(max(size, PINNED_CHUNK), dtype=torch.uint8, pin_memory=True)
            except RuntimeError:
                self._pinned = False
                return None
        piece, self._chunk = self._chunk[:size], self._chunk[size:]
        return piece


class _Streams:
    """The order between copies and arithmetic, kept on the device; nothing at all where there are no streams."""

    def __init__(self, device: torch.device) -> None:
        module: Any = None if device.type == "cpu" else torch.get_device_module(device)
        self._module = module if hasattr(module, "Stream") else None
        self._device = device
        if self._module is not None:
            self._side = self._module.Stream(device)
            self._ready = [self._module.Event() for _ in range(SLOTS)]
            self._free = [self._module.Event() for _ in range(SLOTS)]

    def start(self) -> None:
        """The slots' memory may have been used before by work that is not done yet."""
        if self._module is not None:
            self._side.wait_stream(self._module.current_stream(self._device))

    @contextlib.contextmanager
    def copying(self, slot: int) -> Iterator[None]:
        if self._module is None:
            yield
            return
        self._side.wait_event(self._free[slot])
        with self._module.stream(self._side):
            yield
        self._ready[slot].record(self._side)

    def wait_for_copy(self, slot: int) -> None:
        if self._module is not None:
            self._module.current_stream(self._device).wait_event(self._ready[slot])

    def mark_free(self, slot: int) -> None:
        if self._module is not None:
            self._free[slot].record(self._module.current_stream(self._device))

    def finish(self) -> None:
        if self._module is not None:
            self._module.synchronize(self._device)


class Residence:
    """Networks on a device under a memory limit. A context manager: on leaving, the device's memory is given back.

    Attributes:
        plan: what stays and what is streamed.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        lists: Sequence[str],
        device: torch.device,
        *,
        limit: int | None,
        working: int,
        what: str,
        poison: bool = False,
    ) -> None:
        """Move the networks.

        Args:
            models: by name, their weights in host memory (mapped files, as a rule).
            lists: dotted names of the lists of blocks within each network.
            device: where they will compute.
            limit: bytes of the device; None for no limit.
            working: bytes that activations need.
            what: the networks' name in messages.
            poison: fill a slot with NaNs when its block is done, to prove that nothing reads it late.

        Raises:
            OutOfMemory: as `plan_memory`.
        """
        self._device = device
        self._poison = poison
        self._blocks = dict(_blocks(models, lists))
        within = {id(module) for block in self._blocks.values() for module in block.modules()}
        outside = [part for model in models.values() for part in tensors(model) if id(part[0]) not in within]
        tied = {id(tensor): tensor for _owner, _key, tensor in outside}  # one tensor under several names is one
        sizes = [Block(name, module_bytes(block)) for name, block in self._blocks.items()]
        fixed = sum(_aligned(tensor.nbytes) for tensor in tied.values())
        self.plan = plan_memory(sizes, fixed=fixed, working=working, limit=limit, what=what)
        self._order = {name: [key for key in self._blocks if key.startswith(f"{name}/")] for name in models}
        self._streams = _Streams(device)
        self._expected: collections.deque[str] = collections.deque()
        self._held: list[str | None] = [None] * SLOTS
        self._views: dict[tuple[str, int], list[Tensor]] = {}
        moved = {key: tensor.to(device) for key, tensor in tied.items()}
        for owner, key, tensor in outside:
            _Packed(owner, key, 0, tensor).put(moved[id(tensor)])
        for name in self.plan.resident if device.type != "cpu" else ():  # there a mapped file is used as it is
            _settle(self._blocks[name], device)
        host = _HostMemory(device)
        self._parts = {name: host.keep(*_packed(self._blocks[name])) for name in self.plan.streamed}
        slots = SLOTS if self._parts else 0
        self._slots = [torch.empty(self.plan.slot_bytes, dtype=torch.uint8, device=device) for _ in range(slots)]
        self._streams.start()
        self._hooks = [
            hook
            for name in self.plan.streamed
            for hook in (
                self._blocks[name].register_forward_pre_hook(self._before(name)),
                self._blocks[name].register_forward_hook(self._after(name)),
            )
        ]

    def expect(self, models: Iterable[str]) -> None:
        """Say which networks will be called next, in order. A wrong forecast costs time and nothing else."""
        streamed = set(self.plan.streamed)
        self._expected.extend(name for model in models for name in self._order[model] if name in streamed)
        for slot in range(len(self._slots)):
            if self._held[slot] is None:
                self._fetch_next(slot)

    def __enter__(self) -> Residence:
        return self

    def __exit__(self, *_error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._streams.finish()
        for part in (part for parts in self._parts.values() for part in parts.packed):
            part.put(part.tensor)
        self._slots, self._parts, self._views, self._blocks = [], {}, {}, {}

    def _fetch_next(self, slot: int) -> None:
        """Fill a free slot with the block that comes after those that are there."""
        for name in itertools.islice(self._expected, SLOTS):
            if name not in self._held:
                self._fetch(name, slot)
                return

    def _fetch(self, name: str, slot: int) -> None:
        with self._streams.copying(slot):
            self._parts[name].copy_to(self._slots[slot])
        self._held[slot] = name

    def _before(self, name: str) -> Any:
        def hook(*_arguments: object) -> None:
            if self._expected and self._expected[0] == name:
                self._expected.popleft()
            else:
                self._expected.clear()
            if name not in self._held:
                self._fetch(name, 0)
            slot = self._held.index(name)
            self._streams.wait_for_copy(slot)
            views = self._views.get((name, slot))
            if views is None:
                views = [part.view(self._slots[slot]) for part in self._parts[name].packed]
                self._views[name, slot] = views
            for part, view in zip(self._parts[name].packed, views, strict=True):
                part.put(view)

        return hook

    def _after(self, name: str) -> Any:
        def hook(*_arguments: object) -> None:
            slot = self._held.index(name)
            if self._poison:
                self._slots[slot].fill_(255)
            self._streams.mark_free(slot)
            self._held[slot] = None
            self._fetch_next(slot)

        return hook


def _blocks(models: Mapping[str, nn.Module], lists: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    for name, model in models.items():
        for path in lists:
            with contextlib.suppress(AttributeError):  # not every network has every list
                for index, block in model.get_submodule(path).named_children():
                    yield f"{name}/{path}.{index}", block
