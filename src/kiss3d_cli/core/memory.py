"""Peak resident memory of the process over a stretch of time."""

from __future__ import annotations

import ctypes
import sys
import threading
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
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl has none
        return None
