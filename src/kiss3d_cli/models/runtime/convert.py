"""Published pickles to safetensors, once. The one place that opens a pickle, and it never runs code from it."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.files import move


def convert_pickle(
    source: Path,
    target: Path,
    *,
    entry: str | None,
    prefix: str,
    check: Callable[[Mapping[str, tuple[int, ...]]], None],
    hint: str,
) -> None:
    """Write the tensors of a pickled checkpoint as safetensors. The target appears whole or not at all.

    Args:
        source: what `torch.save` wrote.
        target: the file to write.
        entry: key of the state dict in the pickle; None if the pickle is the state dict.
        prefix: of the tensors to keep; it is removed from their names.
        check: raises if these names and shapes are not the expected ones; called before anything is written.
        hint: what the user can do if the source is of no use.

    Raises:
        Missing: a damaged source, one that holds more than data, one without such tensors, or no place to write.
    """
    state = _read(source, hint)
    if entry is not None:
        state = state.get(entry) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        where = "at its top level" if entry is None else f"under '{entry}'"
        raise Missing(f"the checkpoint holds no tensors {where}", place=str(source), hint=hint)
    kept: dict[str, Tensor] = {
        name.removeprefix(prefix): value.contiguous()
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, Tensor)
    }
    check({name: tuple(value.shape) for name, value in kept.items()})
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save_file(kept, partial, metadata={"format": "pt"})
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        move(partial, target)
    except (OSError, SafetensorError) as error:
        raise Missing(
            f"the converted weights can't be written: {error}",
            place=str(target),
            hint="make room there and make the folder writable",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _read(source: Path, hint: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about unusual pickle protocols, before the error that follows
            try:
                return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                return torch.load(source, map_location="cpu", weights_only=True)  # the format before torch 1.6
    except pickle.UnpicklingError as error:
        cause = "the checkpoint is damaged, or holds more than data and was not opened"
        raise Missing(cause, place=str(source), hint=hint) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        cause = "the checkpoint is damaged or cut short"
        raise Missing(cause, place=str(source), hint=hint) from error
