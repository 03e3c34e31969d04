"""Published pickles to safetensors, once; `torch_files` reads them without running anything in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime.pickles import Damaged, StoredTensor
from kiss3d_cli.models.runtime.torch_files import Checkpoint
from kiss3d_cli.models.runtime.weights import Entry, write_weights
from kiss3d_cli.models.store.headers import check_floats, look, read_header

Fits = Callable[[Mapping[str, tuple[int, ...]]], None]


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

    Tensors that share their numbers in the pickle are written once each.

    Args:
        source: what `torch.save` wrote; it may hold more than tensors, of which nothing is run.
        target: the file to write.
        entry: key of the state dict in the pickle; None if the pickle is the state dict.
        prefix: of the tensors to keep; it is removed from their names.
        check: raises if these names and shapes are not the expected ones; called before anything is written.
        hint: what the user can do if the source is of no use.

    Raises:
        Missing: a damaged source, one without such tensors, or no place to write.
    """
    checkpoint = _open(source, hint)
    kept = _tensors(checkpoint, entry, prefix, hint)
    check({name: stored.shape for name, stored in kept.items()})
    # wide numbers first, so that each tensor begins at a multiple of its numbers' width
    ordered = sorted(kept.items(), key=lambda item: -item[1].dtype.itemsize)
    entries = [Entry(name, t.dtype, t.shape, partial(checkpoint.tensor, t)) for name, t in ordered]
    try:
        write_weights(target, entries, lambda _share: None)
    except Damaged as error:
        raise _damaged(source, hint, error) from error


def pickled_shapes(source: Path, *, entry: str | None, prefix: str, hint: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that `convert_pickle` would keep; their numbers are not read.

    Raises:
        Missing: a damaged source, or one without such tensors.
    """
    kept = _tensors(_open(source, hint), entry, prefix, hint)
    return {name: stored.shape for name, stored in kept.items()}


def converted(source: Path, *, entry: str | None, prefix: str, check: Fits, hint: str) -> Path:
    """The safetensors file beside a pickle; written by `convert_pickle` if it is not there, older or not whole."""
    target = source.with_suffix(".safetensors")
    if not _is_converted(source, target, check):
        convert_pickle(source, target, entry=entry, prefix=prefix, check=check, hint=hint)
    return target


def check_converted(source: Path, *, entry: str | None, prefix: str, check: Fits, hint: str) -> None:
    """Raises what `converted` would, but for the writing. No tensor is read."""
    if _is_converted(source, source.with_suffix(".safetensors"), check):
        return
    look(source)
    kept = _tensors(_open(source, hint), entry, prefix, hint)
    check({name: stored.shape for name, stored in kept.items()})
    other = next((name for name, stored in kept.items() if not stored.dtype.is_floating_point), None)
    if other is not None:
        cause = f"{other} is stored in {str(kept[other].dtype).removeprefix('torch.')}, which is no type of weights"
        raise Missing(cause, place=str(source), hint=hint)


def _is_converted(source: Path, target: Path, check: Fits) -> bool:
    """Whether the converted file is there, newer than its source and whole; else it is made again."""
    try:
        if target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            return False
        header = read_header(target)
        check(header.shapes)
        check_floats(header, {name: name for name in header.shapes})
    except (OSError, Missing):
        return False
    return True


def _open(source: Path, hint: str) -> Checkpoint:
    try:
        return Checkpoint(source)
    except (Damaged, OSError) as error:
        raise _damaged(source, hint, error) from error


def _tensors(checkpoint: Checkpoint, entry: str | None, prefix: str, hint: str) -> dict[str, StoredTensor]:
    state: Any = checkpoint.root
    if entry is not None:
        state = state.get(entry) if isinstance(state, dict) else None
    if not isinstance(state, dict):
        where = "at its top level" if entry is None else f"under '{entry}'"
        raise Missing(f"the checkpoint holds no tensors {where}", place=str(checkpoint.path), hint=hint)
    kept = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(value, StoredTensor)
    }
    try:
        for stored in kept.values():
            checkpoint.require(stored)
    except Damaged as error:
        raise _damaged(checkpoint.path, hint, error) from error
    return kept


def _damaged(source: Path, hint: str, error: Exception) -> Missing:
    return Missing(f"the checkpoint is damaged or cut short: {error}", place=str(source), hint=hint)
