"""Batches made ahead of the steps that take them, by processes of their own: a GPU would wait for one."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from typing import Any, Generic

from torch.utils.data import DataLoader, Dataset

from kiss3d_cli.training.task import B, Batches

MOST = 14
"""Processes by default, on a machine with cores for more."""


def usual_workers(device: str) -> int:
    """Processes that keep a device busy: none beside a CPU, whose cores train."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if device == "cpu" else max(0, min(MOST, cores - 2))


class Ahead(Generic[B]):
    """The batches of one step after another; the same as `Batches.batch` makes, whatever the number of processes."""

    def __init__(self, data: Batches[B], rank: int, workers: int, pinned: bool = False) -> None:
        """Args:
        rank: of the process that trains.
        workers: processes that make batches; with 0 each is made when it is asked for.
        pinned: in memory that a GPU copies from while it computes.
        """
        self.data, self.rank, self.workers, self.pinned = data, rank, workers, pinned
        self._waiting: Iterator[B] | None = None
        self._next = -1

    def batch(self, step: int) -> B:
        """The batch of a step; what was made ahead is of use if it is the one after the last."""
        if self.workers == 0:
            return self.data.batch(step, self.rank)
        if self._waiting is None or step != self._next:
            with warnings.catch_warnings():  # more processes than cores are what was asked for
                warnings.filterwarnings("ignore", message="This DataLoader will create")
                loader: DataLoader[B] = DataLoader(
                    _Steps(self.data, self.rank),
                    batch_size=None,
                    sampler=itertools.count(step),
                    num_workers=self.workers,
                    collate_fn=_as_it_is,
                    pin_memory=self.pinned,
                )
                self._waiting = iter(loader)
        self._next = step + 1
        return next(self._waiting)

    def refresh(self) -> None:
        """Looks for new data, of which the processes learn by being started anew."""
        if self.data.refresh():
            self._waiting = None


class _Steps(Dataset[B]):
    def __init__(self, data: Batches[B], rank: int) -> None:
        self.data, self.rank = data, rank

    def __getitem__(self, step: int) -> B:
        return self.data.batch(step, self.rank)


def _as_it_is(found: Any) -> Any:
    return found
