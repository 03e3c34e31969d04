"""What is said when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.errors import OutOfMemory, from_exception

GIB = 2**30


@contextlib.contextmanager
def explained(device: DeviceInfo, doing: Callable[[], str], hint: str) -> Iterator[None]:
    """Out of memory, with what was being done, the peak so far and what to change.

    Args:
        doing: says what was being done.
        hint: what to change; a resumed run goes on where this one stopped.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(from_exception(error), OutOfMemory):
            raise
        peak = devices.peak_memory(device)
        limit = device.limit_bytes
        reached = "" if peak is None else f" at a peak of {peak / GIB:.2f} GiB"
        allowed = "" if limit is None else f" of {limit / GIB:.2f} GiB allowed"
        raise OutOfMemory(f"out of memory {doing()}{reached}{allowed}", hint=hint) from error
