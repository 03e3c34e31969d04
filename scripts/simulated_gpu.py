"""A CUDA device in name, for machines that have none.

Its tensors say that they are on `cuda:0` and are computed by the CPU. What a real one refuses is refused: tensors of
two devices in one operation, an array made of a tensor that is not on the host, more memory than there is. What makes
the host wait for a real one is noted. As the arithmetic is the CPU's, a program must come to the same bits as on the
CPU, or it does something else on a GPU by mistake. Speed, kernels and the order of streams are not simulated.

A hollow one has no numbers: only shapes and bytes are followed, so that networks of any size show what memory they
take, without their arithmetic. What comes back to the host is zeros, or a one where the program asks for one number.

The tensors are a subclass of torch's that holds one of the host; a dispatch mode computes with what they hold. What
torch does before it asks its dispatcher (lists made into tensors, the choice of an attention kernel, the threads of
autograd's engine) is replaced. A mode holds for one thread: on others the simulated device can't be used.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import heapq
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from kiss3d_cli.core import machine
from kiss3d_cli.core.device import GIB, DeviceInfo, resolve

DEVICE = torch.device("cuda:0")
NAME = "a simulated GPU"
ROUNDING = 512
"""Bytes; of torch's allocator."""
RATES = machine.Measured(matrix=20e12, memory=288e9, host=20e9)
"""Of a plan: to time products of matrices of a GPU's size took the CPU a quarter of an hour."""
SIMULATED = pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(), reason="a CUDA device is simulated on a Linux without one"
)
aten: Any = torch.ops.aten
ACROSS = {aten.copy_.default, aten._to_copy.default}
"""Take tensors of both devices."""
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Take indices of the host."""
JOINING = {aten.cat.default, aten.stack.default}
"""Take not even single numbers of the host, as most operations do."""
ANSWERING = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
}
"""The host has to know what they find."""


class Simulated(Tensor):
    """A tensor of the simulated device."""

    held: Tensor
    gpu: SimulatedGpu
    claim: _Claim
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor, gpu: SimulatedGpu) -> Simulated:
        strides, offset = held.stride(), held.storage_offset()
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=strides, storage_offset=offset, dtype=held.dtype, device=DEVICE
        )
        made.held, made.gpu, made.claim = held, gpu, gpu.claim(held)
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"Simulated({self.held})"

    # with these two, nn.Module.to puts a tensor of this class in place of a parameter

    def __tensor_flatten__(self) -> tuple[list[str], SimulatedGpu]:
        return ["held"], self.gpu

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], gpu: SimulatedGpu, _size: Any, _stride: Any) -> Simulated:
        return Simulated(inner["held"], gpu)

    @classmethod
    def __torch_dispatch__(cls, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        gpu = next(x.gpu for x in tree_leaves((arguments, named)) if isinstance(x, Simulated))
        return gpu.dispatch(function, arguments, named or {})


NARROW = (torch.bfloat16, torch.float16)


class _Claim:
    """Goes with a tensor of the device. Not the tensor itself is watched: torch swaps none that has weak references."""


class SimulatedGpu:
    """
    Attributes:
        memory: bytes that it gives out, which may be fewer than it says it has.
        hollow: without numbers.
        live, peak: bytes of the tensors there are, and the most there were.
        watched: whether to note what the host waits for.
        waits: what it waited for, and from where.
    """

    def __init__(self, memory: int, hollow: bool = False) -> None:
        self.memory, self.hollow = memory, hollow
        self.live = self.peak = 0
        self.watched = False
        self.waits: list[str] = []
        self._owners: collections.Counter[int] = collections.Counter()

    def wait(self, why: object) -> None:
        if self.watched:
            self.waits.append(f"{why} {_caller()}")

    def claim(self, held: Tensor) -> _Claim:
        """Take memory for a tensor, unless others share it already."""
        storage = held.untyped_storage()
        claim, size = _Claim(), -(-storage.nbytes() // ROUNDING) * ROUNDING
        place = storage._cdata
        if not self._owners[place]:
            if self.live + size > self.memory:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB")
            self.live += size
            self.peak = max(self.peak, self.live)
        self._owners[place] += 1
        weakref.finalize(claim, self._let_go, place, size)
        return claim

    def _let_go(self, place: int, size: int) -> None:
        self._owners[place] -= 1
        if not self._owners[place]:
            del self._owners[place]
            self.live -= size

    def cap(self, memory: int) -> None:
        self.memory = memory

    def reset_peak(self) -> None:
        self.peak = self.live

    def dispatch(self, function: Any, arguments: Any, named: dict[str, Any]) -> Any:
        tensors = [x for x in tree_leaves((arguments, named)) if isinstance(x, Tensor)]
        ours = [x for x in tensors if isinstance(x, Simulated)]
        self._refuse_mixing(function, arguments, tensors, len(ours))
        made_here = _makes_ours(function, arguments, named, bool(ours))
        self._note_waits(function, arguments, named, ours, made_here)
        if function is aten.is_pinned.default:
            return False
        if self.hollow and ours and not made_here:
            return _nothing(function, arguments, named)
        inner, inner_named = tree_map_only(Simulated, lambda x: x.held, (arguments, named))
        if self.hollow and ours and function in INDEXING:
            inner = tree_map_only(Tensor, lambda x: x.to("meta"), inner)
        if made_here and inner_named.get("device") is not None:
            inner_named["device"] = torch.device("meta" if self.hollow else "cpu")
        inner_named = {key: value for key, value in inner_named.items() if key not in ("pin_memory", "non_blocking")}
        if function is aten.convolution.default and inner[0].dtype in NARROW and inner[0].device.type == "cpu":
            result = _convolved(inner)
        else:
            result = function(*(inner[:2] if function is aten.copy_.default else inner), **inner_named)
        if not made_here:
            return result
        changed = {id(x.held): x for x in ours}  # an operation in place gives back its own argument
        result = tree_map_only(Tensor, lambda x: changed[id(x)] if id(x) in changed else Simulated(x, self), result)
        return return_and_correct_aliasing(function, arguments, named, result) if ours else result

    def _refuse_mixing(self, function: Any, arguments: Any, tensors: list[Tensor], ours: int) -> None:
        if not ours or ours == len(tensors) or function in ACROSS:
            return
        least = 0 if function in JOINING else 1
        others = [x for x in tensors if not isinstance(x, Simulated) and x.dim() >= least]
        if function in INDEXING and isinstance(arguments[0], Simulated):
            others = [x for x in others if not any(x is index for index in arguments[1])]
        if others:
            shapes = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
            raise RuntimeError(f"Expected all tensors to be on the same device: {function} of {shapes} {_caller()}")

    def _note_waits(
        self, function: Any, arguments: Any, named: dict[str, Any], ours: list[Simulated], made_here: bool
    ) -> None:
        if function in ANSWERING and ours:
            self.wait(function)
        if named.get("pin_memory"):
            self.wait("page-locked memory")
        told = arguments[2:] if function is aten.copy_.default else [named.get("non_blocking")]
        across = bool(ours) != made_here  # a copy of one device's tensor on the other
        if function is aten.copy_.default:
            across = isinstance(arguments[0], Simulated) != isinstance(arguments[1], Simulated)
        if function in ACROSS and across and not any(told):
            self.wait(function)
        if function in INDEXING and ours:
            indices = [index for index in arguments[1] if index is not None]
            if any(not isinstance(index, Simulated) or index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.wait(function)


def _convolved(arguments: Any) -> Tensor:
    """A convolution of 16-bit numbers as a GPU does it, added up in float32: a CPU's own is fifty times slower."""
    wide = tree_map_only(Tensor, lambda x: x.float(), arguments)
    return aten.convolution.default(*wide).to(arguments[0].dtype)


def _nothing(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """What a hollow device tells the host."""
    if function is aten.copy_.default:
        return arguments[0].zero_()
    held = arguments[0].held
    if function is aten._local_scalar_dense.default:
        return torch.ones((), dtype=held.dtype).item()
    return torch.zeros(held.shape, dtype=named.get("dtype") or held.dtype)


def _makes_ours(function: Any, arguments: Any, named: dict[str, Any], ours: bool) -> bool:
    """Whether the result is on the simulated device."""
    if named.get("device") is not None:
        return torch.device(named["device"]).type == "cuda"
    if function is aten.copy_.default:
        return isinstance(arguments[0], Simulated)
    return ours and function is not aten._local_scalar_dense.default


def _caller() -> str:
    """The lines that asked for it, the innermost first; torch's own and the type checker's left out."""
    frame, found = sys._getframe(1), []
    while frame is not None and len(found) < 3:
        path = Path(frame.f_code.co_filename)
        ours = path.name not in ("simulated_gpu.py", "typechecker.py") and not path.name.startswith("<")
        if ours and not {"torch", "jaxtyping"} & {*path.parts}:
            found.append(f"{'/'.join(path.parts[-2:])}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return "at " + " < ".join(found)


class _Mode(TorchDispatchMode):
    def __init__(self, gpu: SimulatedGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        return self._gpu.dispatch(function, arguments, named or {})


@contextlib.contextmanager
def simulated_gpu(memory: int = 12 * GIB, *, hollow: bool = False) -> Iterator[SimulatedGpu]:
    """Have a CUDA device `cuda:0`, on this thread, until the end of the context."""
    gpu = SimulatedGpu(memory, hollow)
    with pytest.MonkeyPatch.context() as patch, _device_guard():
        _replace_cuda(patch, gpu)
        _replace_what_comes_before_the_dispatcher(patch, gpu)
        patch.setattr(torch.autograd, "grad", gradient)
        patch.setattr(machine, "measure", lambda *_, **__: RATES)
        patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # transformers loads weights on threads of its own
        with _Mode(gpu):
            yield gpu


@contextlib.contextmanager
def bench_device(name: str) -> Iterator[DeviceInfo]:
    """A device of the machine, or a simulated one, `simulated` or `hollow`, where memory alone means anything."""
    if name not in ("simulated", "hollow"):
        yield resolve(name)
        return
    with simulated_gpu(24 * GIB, hollow=name == "hollow"):
        yield resolve("cuda")


@contextlib.contextmanager
def _device_guard() -> Iterator[None]:
    """A torch without CUDA knows no way to switch between CUDA devices and refuses many calls: lend it the way of
    `meta`, which does nothing."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    cuda, meta = 1, 14  # c10::DeviceType
    registry = (ctypes.c_void_p * (meta + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before = registry[cuda]
    registry[cuda] = before or registry[meta]
    try:
        yield
    finally:
        registry[cuda] = before


def _replace_cuda(patch: pytest.MonkeyPatch, gpu: SimulatedGpu) -> None:
    class Event:
        def __init__(self, **_: Any) -> None: ...
        def record(self, *_: Any) -> None: ...

        def query(self) -> bool:
            return True

        def synchronize(self) -> None:
            gpu.wait("an event")

    class Stream:
        def __init__(self, *_: Any) -> None: ...
        def wait_stream(self, _: Any) -> None: ...
        def wait_event(self, _: Any) -> None: ...

        def synchronize(self) -> None:
            gpu.wait("a stream")

    properties = types.SimpleNamespace(name=NAME, total_memory=gpu.memory, major=8, minor=6)
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "device": lambda *_: contextlib.nullcontext(),
        "get_device_name": lambda *_: properties.name,
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: (properties.major, properties.minor),
        "is_bf16_supported": lambda **_: True,
        "mem_get_info": lambda *_: (properties.total_memory - gpu.live, properties.total_memory),
        "memory_reserved": lambda *_: gpu.live,
        "memory_allocated": lambda *_: gpu.live,
        "max_memory_allocated": lambda *_: gpu.peak,
        "reset_peak_memory_stats": lambda *_: gpu.reset_peak(),
        "set_per_process_memory_fraction": lambda share, *_: gpu.cap(int(share * properties.total_memory)),
        "empty_cache": lambda: None,
        "synchronize": lambda *_: gpu.wait("the device"),
        "stream": lambda *_: contextlib.nullcontext(),
        "current_stream": lambda *_: Stream(),
        "Stream": Stream,
        "Event": Event,
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, answer)
    patch.setattr(torch.accelerator, "synchronize", answers["synchronize"])
    patch.setattr(torch.accelerator, "empty_host_cache", lambda: None, raising=False)
    # tensors made in it have no version counter, which wrapping them needs
    patch.setattr(torch.inference_mode, "__enter__", lambda self: _no_grad(self).__enter__())
    patch.setattr(torch.inference_mode, "__exit__", lambda self, *what: self.instead.__exit__(*what))


def _no_grad(mode: Any) -> torch.no_grad:
    mode.instead = torch.no_grad()
    return mode.instead  # type: ignore[no-any-return]


def _replace_what_comes_before_the_dispatcher(patch: pytest.MonkeyPatch, gpu: SimulatedGpu) -> None:
    _device_constructors()  # which remembers the functions replaced below by what they are

    def sent(data: Any) -> Tensor:
        gpu.wait("a tensor of numbers")
        return torch.as_tensor(data).to(DEVICE, non_blocking=True)

    def attention(original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            tensors = [x for x in tree_leaves((arguments, named)) if isinstance(x, Tensor)]
            if not any(isinstance(x, Simulated) for x in tensors):
                return original(*arguments, **named)
            gpu._refuse_mixing("attention", arguments, tensors, sum(isinstance(x, Simulated) for x in tensors))
            inner, inner_named = tree_map_only(Simulated, lambda x: x.held, (arguments, named))
            if gpu.hollow:
                query, value = (inner[i] if len(inner) > i else inner_named[n] for i, n in ((0, "query"), (2, "value")))
                return Simulated(query.new_empty(*query.shape[:-1], value.shape[-1]), gpu)
            return Simulated(original(*inner, **inner_named), gpu)

        return call

    def making(original: Any) -> Any:
        def call(data: Any, *arguments: Any, **named: Any) -> Any:
            device = named.get("device")
            if device is None or torch.device(device).type != "cuda":
                return original(data, *arguments, **named)
            del named["device"]
            return data.to(device, named.get("dtype")) if isinstance(data, Tensor) else sent(original(data, **named))

        return call

    def indexing(original: Any) -> Any:
        def place(part: Any) -> Any:
            return sent(part) if isinstance(part, list | tuple | np.ndarray) else part

        def call(self: Tensor, where: Any, *value: Any) -> Any:
            if isinstance(self, Simulated):
                where = tuple(map(place, where)) if isinstance(where, tuple) else place(where)
            return original(self, where, *value)

        return call

    def new_tensor(original: Any) -> Any:
        def call(self: Tensor, data: Any, **named: Any) -> Any:
            if not isinstance(self, Simulated) or "device" in named:
                return original(self, data, **named)
            return sent(torch.as_tensor(data, dtype=named.get("dtype", self.dtype)))

        return call

    def tolist(original: Any) -> Any:
        return lambda self: original(self.cpu() if isinstance(self, Simulated) else self)

    def numpy(original: Any) -> Any:
        def call(self: Tensor, **named: Any) -> Any:
            if isinstance(self, Simulated):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
            return original(self, **named)

        return call

    patch.setattr(functional, "scaled_dot_product_attention", attention(functional.scaled_dot_product_attention))
    for name in ("tensor", "as_tensor", "asarray"):
        patch.setattr(torch, name, making(getattr(torch, name)))
    methods = {"new_tensor": new_tensor, "tolist": tolist, "numpy": numpy}
    for name, change in {"__getitem__": indexing, "__setitem__": indexing, **methods}.items():
        patch.setattr(Tensor, name, change(getattr(Tensor, name)))


def gradient(output: Tensor, leaf: Tensor) -> tuple[Tensor]:
    """`torch.autograd.grad` of one leaf without its engine, which has no thread for a device that is not there."""
    gathered: dict[Any, dict[int, Tensor]] = collections.defaultdict(dict)
    gathered[output.grad_fn][0] = torch.ones_like(output)
    with torch.no_grad():
        for node in _in_order(output.grad_fn):
            given = gathered.pop(node, {})
            if getattr(node, "variable", None) is leaf:
                return (given[0],)
            found = _call(node, given) if given else ()
            for (earlier, number), part in zip(node.next_functions, found, strict=False):
                if earlier is not None and part is not None:
                    part = part.sum_to_size(_shape(earlier, number))  # undoes broadcasting, as the engine does
                    before = gathered[earlier].get(number)
                    gathered[earlier][number] = part if before is None else before + part
    raise RuntimeError("the output does not depend on the leaf")


def _in_order(last: Any) -> Iterator[Any]:
    """The nodes of a graph, each before those that it hands its gradients to; of those that are ready the one that was
    made last, as in the engine, so that sums of several gradients have the same bits."""
    waits: collections.Counter[Any] = collections.Counter()
    seen, stack = {last}, [last]
    while stack:
        for earlier, _number in stack.pop().next_functions:
            if earlier is not None:
                waits[earlier] += 1
                if earlier not in seen:
                    seen.add(earlier)
                    stack.append(earlier)
    ready = [(-last._sequence_nr(), 0, last)]
    count = 0
    while ready:
        node = heapq.heappop(ready)[2]
        yield node
        for earlier, _number in node.next_functions:
            if earlier is not None:
                waits[earlier] -= 1
                if waits[earlier] == 0:
                    count += 1
                    heapq.heappush(ready, (-earlier._sequence_nr(), count, earlier))


def _call(node: Any, given: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    wanted = node._input_metadata
    gradients = [given.get(i) for i in range(len(wanted))]
    if callable(node):
        found = node(*gradients)
    else:  # of a torch.autograd.Function, which is never given None
        filled = zip(gradients, wanted, strict=True)
        found = node.apply(
            *(torch.zeros(m.shape, dtype=m.dtype, device=m.device) if g is None else g for g, m in filled)
        )
    return found if isinstance(found, tuple) else (found,)


def _shape(node: Any, number: int) -> torch.Size:
    leaf = getattr(node, "variable", None)
    return torch.Size(node._input_metadata[number].shape) if leaf is None else leaf.shape
