"""What was freed goes back to the system."""

import subprocess
import sys

import numpy as np
import psutil
import pytest

import forks
from kiss3d_cli.core import memory


@pytest.mark.skipif(memory._of_glibc("malloc_trim") is None, reason="this C library gives freed memory back by itself")
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


KEPT = """
import numpy, psutil
from kiss3d_cli.core import memory
def kept():
    before = psutil.Process().memory_info().rss
    blocks = [numpy.ones(2_000_000) for _ in range(3)]
    del blocks
    return psutil.Process().memory_info().rss - before
with memory.large_blocks_mapped():
    print(kept())
print(kept())
"""


@pytest.mark.skipif(memory._of_glibc("mallopt") is None, reason="this C library gives freed memory back by itself")
def test_large_blocks_leave_the_process_when_they_are_freed():
    done = forks.run([sys.executable, "-c", KEPT], stdout=subprocess.PIPE, text=True, check=True)
    meanwhile, afterwards = map(int, done.stdout.split())
    assert meanwhile < 5e6
    assert afterwards > 40e6, "else there is nothing to show"


def test_other_systems_are_left_alone(monkeypatch):
    memory._of_glibc.cache_clear()
    monkeypatch.setattr(sys, "platform", "win32")
    try:
        assert memory._of_glibc("malloc_trim") is None
        memory.give_back()
        with memory.large_blocks_mapped():
            pass
    finally:
        memory._of_glibc.cache_clear()
