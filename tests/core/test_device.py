"""What is free on a GPU, without one."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from kiss3d_cli.core.device import GIB, resolve


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 GiB of which 7 are free; torch holds 4, of which 1 is in use."""
    answers = {
        "is_available": True,
        "device_count": 1,
        "get_device_properties": SimpleNamespace(name="RTX 3060", total_memory=12 * GIB),
        "mem_get_info": (7 * GIB, 12 * GIB),
        "memory_reserved": 4 * GIB,
        "memory_allocated": GIB,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_arguments, answer=answer: answer)


@pytest.mark.parametrize(("limit", "expected"), [(None, 10), (4, 4), (12, 10)])
def test_what_torch_keeps_unused_is_free(card: None, limit: float | None, expected: int) -> None:
    device = resolve("auto", limit)
    assert device.name == "cuda:0"
    assert device.limit_bytes == expected * GIB


_MEANWHILE = """
import sys, threading
from kiss3d_cli.core import device
found = device.resolve("auto")
early = "torch" in sys.modules
device.import_meanwhile()
for thread in threading.enumerate():
    if thread.name == "torch":
        thread.join()
import torch  # of a thread that failed this would be the first import, and tell why
print(early, "torch" in sys.modules, found == device.resolve("auto"), torch.ones(2).sum().item())
"""


@pytest.mark.skipif(
    torch.version.cuda is not None or sys.platform != "linux", reason="torch must be asked for its GPUs"
)
def test_without_a_gpu_torch_is_not_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", _MEANWHILE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "2.0"]
