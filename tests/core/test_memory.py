"""What was freed goes back to the system."""

import sys

import numpy as np
import psutil
import pytest

from kiss3d_cli.core import memory


@pytest.mark.skipif(memory._malloc_trim() is None, reason="this C library gives freed memory back by itself")
def test_freed_memory_leaves_the_process():
    process = psutil.Process()
    blocks = [np.ones(1000) for _ in range(20_000)]  # 8 kB each: from the heap, which only shrinks at its end
    pin = [np.ones(1000) for _ in range(10)]
    full = process.memory_info().rss
    del blocks
    kept = process.memory_info().rss
    memory.give_back()
    freed = process.memory_info().rss
    assert len(pin) == 10
    assert kept > full - 80e6  # else there is nothing to show
    assert freed < full - 120e6


def test_other_systems_are_left_alone(monkeypatch):
    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    try:
        assert memory._malloc_trim() is None
        memory.give_back()
    finally:
        memory._malloc_trim.cache_clear()
