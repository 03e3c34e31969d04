"""Samples on disk: files of a few dozen views each, written whole or not at all, read without copying."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.folders import entries
from kiss3d_cli.training.views import Sample

FORMAT = "kiss3d-prior-1"
"""Raised when samples mean something else: old shards are then refused."""
KEYS = tuple(entry.name for entry in dataclasses.fields(Sample))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"views-{number:05}.safetensors"


def write_shard(path: Path, samples: list[Sample]) -> None:
    """Writes samples beside the path first, then renames: a kill or a full disk leaves no half shard."""
    arrays = {key: np.stack([getattr(sample, key) for sample in samples]) for key in KEYS}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(save(arrays, metadata={"format": FORMAT}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a shard, one row for each sample.

    Raises:
        BadInput: the file is damaged or of another format.
    """
    try:
        with safe_open(path, framework="np") as opened:
            found = (opened.metadata() or {}).get("format")
            if found != FORMAT:
                raise BadInput(
                    f"these views are of the format {found}, not {FORMAT}",
                    place=str(path),
                    hint="make them again: kiss3d train data",
                )
            return {key: opened.get_tensor(key) for key in KEYS}
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"the views are damaged: {error}", place=str(path), hint="remove the file and run kiss3d train data again"
        ) from error


def find_shards(folder: Path) -> list[Path]:
    """All shards of a folder, in order.

    Raises:
        Missing: there are none.
    """
    found = entries(folder, "views-*.safetensors")
    if not found:
        raise Missing("there are no views to train on", place=str(folder), hint="make some: kiss3d train data")
    return found
