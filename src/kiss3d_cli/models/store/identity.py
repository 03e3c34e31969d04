"""Which content a file of weights has, without reading tens of gigabytes each time it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.core.files import open_given, read_bytes, write_durably
from kiss3d_cli.core.records import BadRecord, parse_json, write_json

_LARGE = 10 * 2**20
"""Bytes from which the hub keeps a file apart and names it by sha256; a smaller one has git's hash, unless its ending
says that it is one of these."""
_APART = {".safetensors", ".ckpt", ".bin", ".onnx", ".pt", ".pth", ".gguf", ".model", ".h5", ".msgpack"}
_CHUNK = 2**22
_LARGEST_NOTES = 4 * 2**20
_MOST = 5000
_guard = threading.Lock()


def content_identity(path: Path) -> str:
    """The hash by which the hub knows a file's content: what `touch`, a copy or a new download leave as it is.

    It is the blob's name in the hub's cache, and what the hub's client noted beside a file that it put into a folder,
    unless that was changed since. Anything else is hashed once, and the hash kept with the file's size and time.

    Raises:
        OSError: the file can't be read.
    """
    target = path.resolve()
    if target.parent.name == "blobs":
        return target.name
    status = target.stat()
    return _noted(target, status) or _hashed(target, status)


def _noted(path: Path, status: os.stat_result) -> str | None:
    """The etag in `.cache/huggingface/download/<file>.metadata`: a commit, an etag and a time, a line each."""
    below = path.name
    for folder in map(str, path.parents):
        note = os.path.join(folder, ".cache", "huggingface", "download")  # noqa: PTH118 - a plan asks some 500 times
        if os.path.isdir(note):  # noqa: PTH112
            with contextlib.suppress(OSError, ValueError, IndexError):
                lines = read_bytes(Path(note, f"{below}.metadata"), 1000).decode("ascii").split("\n")
                if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", lines[1]) and status.st_mtime - 1 <= float(lines[2]):
                    return lines[1]
        below = f"{os.path.basename(folder)}/{below}"  # noqa: PTH119
    return None


def _hashed(path: Path, status: os.stat_result) -> str:
    key, stamp = str(path), [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    notes = cache_folder() / "hashes.json"
    with _guard:
        known = _read(notes).get(key)
        if isinstance(known, list) and len(known) == 4 and known[:3] == stamp and isinstance(known[3], str):
            return known[3]
        found = _content_hash(path, status.st_size)
        kept = {name: value for name, value in _read(notes).items() if name != key}
        kept = dict(list(kept.items())[-_MOST:])
        with contextlib.suppress(OSError, ValueError):  # it is hashed again the next time
            notes.parent.mkdir(parents=True, exist_ok=True)
            write_durably(notes, write_json({**kept, key: [*stamp, found]}))
    return found


def _read(notes: Path) -> dict[str, Any]:
    try:
        return _parsed(read_bytes(notes, _LARGEST_NOTES))
    except (OSError, BadRecord):
        return {}


@lru_cache(maxsize=1)
def _parsed(notes: bytes) -> dict[str, Any]:
    """A plan asks of some fifty files, and the notes are the same each time."""
    found = parse_json(notes)
    return found if isinstance(found, dict) else {}


def _content_hash(path: Path, size: int) -> str:
    apart = size >= _LARGE or path.suffix in _APART
    digest = hashlib.sha256() if apart else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open_given(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
