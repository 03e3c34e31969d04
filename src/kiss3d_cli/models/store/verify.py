"""Checking model files on disk against what is known of them, without the network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.models.store.locate import needed_files
from kiss3d_cli.models.store.registry import Model


@dataclasses.dataclass(frozen=True)
class Checked:
    """One file of a model.

    Attributes:
        path: the file.
        how: `hash` where the published hash is known, else `structure`.
        fault: what is wrong with it; None if nothing is.
    """

    path: Path
    how: str
    fault: str | None


def verify(model: Model, folder: Path) -> Iterator[Checked]:
    """Check every needed file of a model, one after the other.

    The hub's cache names its blobs by content: by sha256 the large ones, by git's hash the small ones. Anywhere else
    only the structure of a file can be checked, which shows one that is cut short.
    """
    for name in needed_files(model, folder):
        path = folder / name
        blob = path.resolve()
        expected = blob.name if blob.parent.name == "blobs" else model.sha256.get(name)
        try:
            if expected is not None:
                found = _git_sha1(blob) if len(expected) == 40 else file_sha256(blob)
                yield Checked(path, "hash", None if found == expected else "its content is not the published one")
            else:
                yield Checked(path, "structure", _structure_fault(path))
        except OSError as error:
            yield Checked(path, "structure", f"it can't be read: {error.strerror}")


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _structure_fault(path: Path) -> str | None:
    size = path.stat().st_size
    if size == 0 and path.suffix != ".txt":
        return "it is empty"
    if path.suffix == ".safetensors":
        return _safetensors_fault(path, size)
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return "it is no JSON"
    if path.suffix == ".ckpt" and not zipfile.is_zipfile(path):
        return "it is cut short, or no checkpoint of torch"
    return None


def _safetensors_fault(path: Path, size: int) -> str | None:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > size - 8:
            return "it is cut short"
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "its header is damaged"
    if 8 + length + end != size:
        return f"it has {size} bytes instead of {8 + length + end}"
    return None
