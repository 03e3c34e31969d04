"""Parallel execution of independent work on a CPU, with the same results on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Iterable[T], device: torch.device | None = None) -> list[R]:
    """`[work(item) for item in items]`, spread over as many threads as torch has; on a GPU one after the other.

    Most of what rendering calls is too small for torch to spread by itself. Inside, torch has one thread, so that what
    is spread once is not spread again. Nothing may depend on the order in which the pieces end.

    Args:
        device: where the work is done; None is the CPU.
    """
    import torch

    items, threads = list(items), torch.get_num_threads()
    if threads == 1 or len(items) < 2 or (device is not None and device.type != "cpu"):
        return [work(item) for item in items]
    recording = torch.is_grad_enabled()

    def alike(item: T) -> R:
        with torch.set_grad_enabled(recording):  # every thread has its own switch
            return work(item)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, len(items))) as pool:
            return list(pool.map(alike, items))
    finally:
        torch.set_num_threads(threads)


def both(one: Callable[[], T], other: Callable[[], R]) -> tuple[T, R]:
    """The results of two independent calls that run in parallel."""
    calls: tuple[Callable[[], T | R], ...] = (one, other)
    found = side_by_side(lambda call: call(), calls)
    return cast("tuple[T, R]", tuple(found))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split among threads, and their order decides the last bit: a small network's answers are had on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
