"""Peak resident memory of the process over a stretch of time."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any

import psutil


class PeakMemory:
    """Context manager; `bytes` is the most resident memory seen between its ends, sampled every 20 ms.

    The kernel's own high-water mark can't be reset portably, and would count the stages before.
    """

    INTERVAL = 0.02

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        self.bytes = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self.INTERVAL):
            self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)


def give_back() -> None:
    """Return to the system what was freed: glibc keeps it, so that the runs of a batch would pile up what each needed.

    Nothing happens under other C libraries.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


_MAPPED, _GREATEST = 8 * 2**20, 32 * 2**20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the names of glibc's malloc.h


@contextmanager
def large_blocks_mapped() -> Iterator[None]:
    """Until the end, blocks of 8 MiB or more are pages of their own, and go back to the system when they are freed.

    By itself glibc keeps blocks of up to 32 MiB for later, once it has seen one freed. There they are split, so that
    equal runs peak tens of MiB apart, and of many runs the highest peak counts. Mapping costs page faults.
    """
    _set_thresholds(_MAPPED)
    try:
        yield
    finally:
        _set_thresholds(_GREATEST)  # where glibc's own ends; it can't be told to choose again


def _set_thresholds(size: int) -> None:
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, size)
        mallopt(_TRIM_THRESHOLD, 2 * size)  # as glibc has it


@cache
def _of_glibc(name: str) -> Any:
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim  # noqa: B018 - others have a mallopt, but musl has neither
        return getattr(library, name)
    except (OSError, AttributeError):
        return None
