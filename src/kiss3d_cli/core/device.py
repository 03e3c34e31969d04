"""Selection of the device and its dtypes; nothing else asks torch about them."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import re
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING

from kiss3d_cli.core.errors import BadInput, Missing

if TYPE_CHECKING:
    import torch

GIB = 2**30
_BUILT_WITHOUT = "this torch is built without CUDA"


@dataclasses.dataclass(frozen=True)
class DeviceInfo:
    """A device, resolved once per run.

    Attributes:
        name: torch's name for it, for example `cpu` or `cuda:0`.
        model: the product's name, for the run's record.
        why: how it was chosen.
        memory_bytes: video memory in all; None on the CPU.
        limit_bytes: video memory that may be used; None on the CPU.
    """

    name: str
    model: str
    why: str
    memory_bytes: int | None = None
    limit_bytes: int | None = None

    @property
    def is_gpu(self) -> bool:
        return self.name != "cpu"

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")

    @property
    def torch(self) -> torch.device:
        import torch

        return torch.device(self.name)

    @property
    def half(self) -> torch.dtype:
        """The dtype of large networks: half precision on a GPU, float32 on the CPU (float16 never runs there)."""
        import torch

        if not self.is_gpu:
            return torch.float32
        if self.is_cuda:
            with torch.cuda.device(self.torch):  # torch asks the current device, which may be another one
                if torch.cuda.is_bf16_supported(including_emulation=False):
                    return torch.bfloat16
        return torch.float16

    @property
    def float16(self) -> torch.dtype:
        """float16 on a GPU, for networks that were published in it and keep to its range; float32 on the CPU."""
        import torch

        return torch.float16 if self.is_gpu else torch.float32


def _import_torch() -> None:
    """The first import, without the search for garbage: there is none, and it takes a sixth of the two seconds."""
    on = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if on:
            gc.enable()


def _knows_no_gpu() -> bool:
    """Whether the torch that is installed was built for no GPU at all, without importing it."""
    if "torch" in sys.modules:
        return False
    found = find_spec("torch")
    try:
        told = (
            {} if found is None or found.origin is None else run_path(str(Path(found.origin).with_name("version.py")))
        )
    except (OSError, SyntaxError):
        return False
    return "cuda" in told and all(told.get(kind) is None for kind in ("cuda", "hip", "xpu")) and sys.platform == "linux"


def import_meanwhile() -> None:
    """Begin to import torch in a thread of its own, where nothing needs it for the next second.

    Its libraries are loaded first, by a call that lets the interpreter go on. What goes wrong comes up again where
    torch is imported next.
    """
    if not _knows_no_gpu():
        return  # it is there already, or has been asked for its GPUs

    def load() -> None:
        found = find_spec("torch")
        with contextlib.suppress(Exception):
            if found is not None and found.origin is not None:
                ctypes.CDLL(str(Path(found.origin).with_name("lib") / "libtorch_python.so"))
        with contextlib.suppress(Exception):
            _import_torch()

    threading.Thread(target=load, name="torch").start()


def resolve(name: str = "auto", memory_limit: float | None = None) -> DeviceInfo:
    """Resolve the name of a device.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        memory_limit: video memory that may be used, in GiB.

    Raises:
        BadInput: the name is not one of those.
        Missing: the device was asked for and is not there; `auto` never raises.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (
        index and (kind != "cuda" or re.fullmatch(r"[0-9]{1,4}", index) is None)
    ):
        raise BadInput(
            f"'{name}' is not a device", place="device.name", hint="choose one of: auto, cpu, cuda, cuda:0, mps"
        )
    if kind == "cpu":
        return DeviceInfo("cpu", "CPU", "asked for")
    if kind == "auto" and _knows_no_gpu():
        return DeviceInfo("cpu", "CPU", f"auto: {_BUILT_WITHOUT}")
    _import_torch()
    import torch

    if kind == "cuda" or (kind == "auto" and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise Missing(
                _no_cuda(), place="device.name=cuda", hint="use --set device.name=cpu, or install a CUDA torch"
            )
        number = int(index or 0)
        if number >= torch.cuda.device_count():
            raise Missing(
                f"there are {torch.cuda.device_count()} CUDA devices, numbered from 0",
                place=f"device.name={name}",
                hint="use --set device.name=cuda:0",
            )
        properties = torch.cuda.get_device_properties(number)
        why = "asked for" if kind == "cuda" else "auto: a CUDA device is there"
        device = DeviceInfo(f"cuda:{number}", properties.name, why, properties.total_memory)
        return with_free_memory(device, memory_limit)
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise Missing("there is no Metal device here", place="device.name=mps", hint="use --set device.name=cpu")
        return DeviceInfo("mps", "Apple GPU", "asked for")
    return DeviceInfo("cpu", "CPU", f"auto: {_no_cuda()}")


def modelled_gpu(model: str, limit_bytes: int | None) -> DeviceInfo:
    """A GPU that costs are estimated for; it need not be installed."""
    return DeviceInfo("cuda:0", model, "modelled", limit_bytes=limit_bytes)


def free_video_memory() -> int | None:
    """Bytes free on the current GPU; None where this process has not begun to use one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.mem_get_info()[0])


def with_free_memory(device: DeviceInfo, memory_limit: float | None) -> DeviceInfo:
    """The device with the limit that holds now: the libraries' kernels take some, and other programs come and go.

    Args:
        memory_limit: video memory that may be used, in GiB.
    """
    if not device.is_cuda:
        return device
    import torch

    free, _total = torch.cuda.mem_get_info(device.torch)
    # what torch keeps for itself between two networks is free to the next
    free += torch.cuda.memory_reserved(device.torch) - torch.cuda.memory_allocated(device.torch)
    limit = free if memory_limit is None else min(free, int(memory_limit * GIB))
    return dataclasses.replace(device, limit_bytes=limit)


def generators(device: torch.device) -> list[torch.device]:
    """The devices beside the CPU whose random numbers a network there draws, for `torch.random.fork_rng`."""
    return [device] if device.type == "cuda" else []


def _no_cuda() -> str:
    import torch

    return _BUILT_WITHOUT if torch.version.cuda is None else "no CUDA device is visible"


def reset_peak_memory(device: DeviceInfo) -> None:
    if device.name.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device.torch)


def peak_memory(device: DeviceInfo) -> int | None:
    """Peak of allocated VRAM in bytes since the last reset; None on the CPU."""
    if not device.name.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device.torch))


def release(device: DeviceInfo, *, collect: bool = True) -> None:
    """Give memory of models that are gone back to the system, the page-locked memory of the host too.

    Args:
        collect: look for models that hold each other, which takes a quarter of a second.
    """
    import gc

    if collect:
        gc.collect()
    if device.is_cuda:
        import torch

        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # newer than the oldest torch that is supported
            torch.accelerator.empty_host_cache()


def is_cuda(device: torch.device) -> bool:
    """Whether torch's device is a CUDA one, of which what follows is known: TF32, fused optimisers, pinned memory."""
    return device.type == "cuda"
