"""Properties of this machine; nothing is changed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.files import read_bytes, write_durably
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.records import parse_json

GIGA = 10**9


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine as `kiss3d doctor` shows it.

    Attributes:
        device: the device that `auto` takes.
        driver: version of the GPU's driver, also where torch can't use it; None without the driver's own tool.
        capability: compute capability, for example `8.6`.
        free_video_bytes, free_ram_bytes, ram_bytes, free_disk_bytes: now; the disk is that of the given folder.
        cores: of the processor.
        torch: version of torch.
        torch_cuda: the CUDA version it was built with; None for a build without.
        python: version of Python.
        system: name and release of the operating system.
    """

    device: DeviceInfo
    driver: str | None
    capability: str | None
    free_video_bytes: int | None
    free_ram_bytes: int
    ram_bytes: int
    free_disk_bytes: int
    cores: int
    torch: str
    torch_cuda: str | None
    python: str
    system: str


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measured throughput of the device, per second.

    Attributes:
        matrix: operations of matrix products in the dtype of large networks.
        memory: bytes read and written.
        host: bytes copied from page-locked host memory.
    """

    matrix: float
    memory: float
    host: float


def inspect_machine(folder: Path) -> Machine:
    """Look at the machine. `folder` is where runs are written."""
    import psutil
    import torch

    device = devices.resolve("auto")
    gpu = device.is_cuda
    memory = psutil.virtual_memory()
    capability = torch.cuda.get_device_capability(device.torch) if gpu else None
    return Machine(
        device=device,
        driver=_driver(),
        capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        free_video_bytes=torch.cuda.mem_get_info(device.torch)[0] if gpu else None,
        free_ram_bytes=int(memory.available),
        ram_bytes=int(memory.total),
        free_disk_bytes=free_disk(folder),
        cores=int(psutil.cpu_count(logical=False) or 1),
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
    )


def package_version(name: str) -> str | None:
    """The version of an optional package, without importing it; None if it is not installed."""
    if find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def measure(device: DeviceInfo, seconds: float = 0.3) -> Measured:
    """Time products of square matrices, a copy within the device's memory and one from the host."""
    import torch

    size = 4096 if device.is_gpu else 768
    a = torch.randn(size, size).to(device.torch, device.half)
    large = torch.empty((256 if device.is_gpu else 32) * 2**20, dtype=torch.uint8, device=device.torch)
    other = torch.empty_like(large)
    outside = torch.empty(large.shape, dtype=torch.uint8, pin_memory=device.is_cuda)

    def rate(work: object, amount: float) -> float:
        assert callable(work)
        work()
        _wait(device)
        started, times = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            work()
            times += 1
            if times % 4 == 0:
                _wait(device)
        _wait(device)
        return times * amount / (time.perf_counter() - started)

    return Measured(
        matrix=rate(lambda: a @ a, 2 * size**3),
        memory=rate(lambda: other.copy_(large), 2 * large.numel()),
        host=rate(lambda: large.copy_(outside, non_blocking=True), large.numel()),
    )


def measured(device: DeviceInfo) -> Measured | None:
    """What `measure` found the first time that this device was asked about, kept in `core.cache`.

    None if the device had no room for it.
    """
    import torch

    return _measured(device.name, device.model, f"{torch.__version__}, {torch.get_num_threads()} threads")


@lru_cache(maxsize=8)
def _measured(name: str, model: str, by: str) -> Measured | None:
    key = json_sha256({"device": name, "model": model, "by": by})
    path = cache_folder() / "rates" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = parse_json(read_bytes(path, 2**12))
        found = Measured(**{field: float(kept[field]) for field in ("matrix", "memory", "host")})
        if min(found.matrix, found.memory, found.host) > 0:
            return found
    try:
        found = measure(DeviceInfo(name, model, by), seconds=0.1)
    except (RuntimeError, MemoryError):
        return None
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(dataclasses.asdict(found)).encode())
    return found


def _wait(device: DeviceInfo) -> None:
    if device.is_gpu:
        import torch

        torch.accelerator.synchronize(device.torch)


def _driver() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else None


def free_disk(folder: Path) -> int:
    """Bytes free on the disk of a folder, which need not be there yet."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
