"""What the stages say when memory runs out, and when there is no device for the work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import Missing, OutOfMemory, from_exception
from kiss3d_cli.core.stage import Context

GIB = 2**30
LARGE = 2 * 10**9
"""Bytes of weights from which a network is not for the CPU."""


@contextlib.contextmanager
def explained(context: Context, doing: Callable[[], str], hint: str) -> Iterator[None]:
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
        peak = devices.peak_memory(context.device)
        limit = context.device.limit_bytes
        reached = "" if peak is None else f" at a peak of {peak / GIB:.2f} GiB"
        allowed = "" if limit is None else f" of {limit / GIB:.2f} GiB allowed"
        raise OutOfMemory(f"out of memory {doing()}{reached}{allowed}", hint=hint) from error


def require_gpu(context: Context, what: str, weight_bytes: int, hours: float) -> None:
    """Raises Missing if large weights would end up on a CPU that nobody asked for by name."""
    if context.device.is_gpu or weight_bytes < LARGE or context.device.why == "asked for":
        return
    raise Missing(
        f"{what} needs a GPU, and there is none; on a CPU one bundle takes about {hours:.0f} hours",
        hint="--preset draft, or --set bundle.method=reference, or --set device.name=cpu to wait for it",
    )
