"""The latents of a run that may be killed: kept on disk every few steps, read back by the next attempt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kiss3d_cli.core.files import read_bytes, write_durably

_LARGEST = 2**30
"""Bytes; more than the latents of any bundle."""
Tokens = Float[Tensor, "1 N C"]


@dataclasses.dataclass(frozen=True)
class Saved:
    """Latents after `done` steps."""

    done: int
    latents: Tokens


class LatentFile:
    """Writes latents without waiting for the device: a copy is started after one step and written after a later one.

    Args:
        path: the file.
        every: steps between two copies.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._pending: tuple[int, Tensor, Any] | None = None
        self._host: Tensor | None = None

    def reserve(self, shape: torch.Size) -> None:
        """Take the page-locked memory for copies from a GPU: later, in the middle of steps, it would wait for them."""
        self._host = torch.empty(shape, pin_memory=True)

    def read(self, steps: int, shape: torch.Size) -> Saved | None:
        """What an earlier attempt left; None if there is nothing, or nothing that fits."""
        try:
            stored = load(read_bytes(self._path, _LARGEST))
            done, latents = int(stored["done"]), stored["latents"]
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            return None
        if not 0 < done <= steps or latents.shape != shape or latents.dtype != torch.float32:
            return None
        return Saved(done, latents) if bool(latents.isfinite().all()) else None

    def after_step(self, done: int, latents: Tokens, *, last: bool) -> None:
        """Take note of the latents after so many steps."""
        self._write_if_there(wait=False)
        if self._pending is None and (last or done % self._every == 0):
            self._pending = (done, *self._start_copy(latents))
        self._write_if_there(wait=last)

    def _write_if_there(self, *, wait: bool) -> None:
        if self._pending is None:
            return
        done, latents, event = self._pending
        if event is not None:
            if wait:
                event.synchronize()
            elif not event.query():
                return
        self._pending = None
        write_durably(self._path, save({"done": torch.tensor(done), "latents": latents}))

    def _start_copy(self, latents: Tensor) -> tuple[Tensor, Any]:
        """A copy in host memory and the event after which it is whole; no event if it is whole at once."""
        if self._host is None:
            return latents.to("cpu", copy=True), None
        self._host.copy_(latents, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(latents.device))  # not that of the current device, which may be another
        return self._host, event
