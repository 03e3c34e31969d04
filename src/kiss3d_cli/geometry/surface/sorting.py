"""Sorting by integer keys, several times faster than numpy's argsort: key and position packed into one number."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

_LARGEST = int(np.iinfo(np.int64).max)


def stable_order(keys: Int[np.ndarray, " K"], limit: int) -> Int[np.ndarray, " K"]:
    """`np.argsort(keys, kind="stable")` for keys in [0, limit)."""
    bits = max(1, (len(keys) - 1).bit_length())
    if limit << bits > _LARGEST:
        return np.argsort(keys, kind="stable")
    packed = (keys.astype(np.int64) << bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << bits) - 1)


def distinct(
    keys: Int[np.ndarray, " K"], limit: int
) -> tuple[Int[np.ndarray, " U"], Int[np.ndarray, " U"], Int[np.ndarray, " K"]]:
    """`np.unique(keys, return_index=True, return_inverse=True)` for keys in [0, limit)."""
    order = stable_order(keys, limit)
    ascending = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ascending[1:] != ascending[:-1]
    number = np.empty(len(keys), np.int64)
    number[order] = np.cumsum(new) - 1
    return ascending[new], order[new], number
