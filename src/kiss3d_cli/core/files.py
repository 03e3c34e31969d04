"""Files and folders that come to their place as a whole, on every system."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) if os.name == "nt" else ()
"""Seconds. On Windows a virus scanner or the search index holds what was just written for a moment."""


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file as a whole: a reader, or a kill at any moment, sees the old content or the new."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    move(partial, path)
    sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file, replacing what is there, or a folder to a free name."""
    _patiently(lambda: source.replace(target))


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link without what it points to; nothing if there is nothing."""
    if path.is_symlink() or path.is_file():
        _patiently(path.unlink)
    elif path.exists():
        _patiently(lambda: shutil.rmtree(path))


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; Windows neither needs nor allows it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _patiently(action: Callable[[], T]) -> T:
    for wait in _WAITS:
        try:
            return action()
        except PermissionError:
            time.sleep(wait)
    return action()
