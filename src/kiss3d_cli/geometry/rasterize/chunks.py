"""Lists of unequal lengths worked on in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

CPU_CHUNK = 1 << 16
"""Small enough for the cache of a core."""
DEVICE_CHUNK = 1 << 22
"""Large enough to fill a GPU, small enough for its memory (about 400 MB)."""


def chunk_size(device: torch.device) -> int:
    return CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK


def expand(counts: Int[Tensor, " N"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Item i, counts[i] times, and the number of each repetition: [2, 0, 3] -> [0, 0, 2, 2, 2], [0, 1, 0, 1, 2]."""
    item = torch.repeat_interleave(counts)
    before = counts.cumsum(0, dtype=counts.dtype) - counts
    return item, torch.arange(item.shape[0], dtype=counts.dtype, device=counts.device) - before.index_select(0, item)


def ranges(counts: Int[Tensor, " N"], limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of items whose counts add up to about `limit`; an item alone may pass it."""
    total = counts.cumsum(0)
    end = int(total[-1]) if total.numel() else 0
    if end == 0:
        return
    if end <= limit:
        yield 0, total.shape[0]
        return
    levels = torch.arange(limit, end + limit, limit, device=counts.device)
    start = 0
    for stop in torch.searchsorted(total, levels, right=True).tolist():
        stop = min(max(stop, start + 1), total.shape[0])
        if start < stop:
            yield start, stop
        start = stop
