"""What is free on a GPU, without one."""

from __future__ import annotations

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
