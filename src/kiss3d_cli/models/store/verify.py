"""Checking model files on disk against what is known of them, without the network."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.models.store import locate, preflight
from kiss3d_cli.models.store.model import Model


@dataclasses.dataclass(frozen=True)
class Checked:
    """One file of a model.

    Attributes:
        path: the file.
        how: `hash` where the published hash is known, else `header`.
        fault: what is wrong with it; None if nothing is.
    """

    path: Path
    how: str
    fault: str | None


def verify(
    model: Model, root: Path | None = None, faults: Iterable[preflight.Fault] | None = None
) -> Iterator[Checked]:
    """Check every needed file of a model, one after the other; nothing if the model is not on this machine.

    The hub's cache names its blobs by content: by sha256 the large ones, by git's hash the small ones. Anywhere else,
    and where the content is right, what is said is what `preflight` finds without reading a tensor.

    Args:
        root: as in `locate.find`.
        faults: what `preflight` found, if it was asked before, about other models too, which this one must fit.
    """
    folder = locate.partial_home(model, root)
    if folder is None:
        return
    found = preflight.check([model.name], root) if faults is None else faults
    known = {fault.path: fault.what for fault in found if model.name in fault.models}
    exact = {name for name in model.files if not locate.is_pattern(name)}
    paths = {folder / name for name in (*locate.needed_files(model, folder), *exact)} | set(known)
    for path in sorted(paths):
        blob, pinned = path.resolve(), model.sha256.get(path.relative_to(folder).as_posix())
        expected = pinned or (blob.name if blob.parent.name == "blobs" else None)
        if expected is None or not blob.is_file():
            yield Checked(path, "header", known.get(path))
            continue
        try:
            content = _git_sha1(blob) if len(expected) == 40 else file_sha256(blob)
        except OSError as error:
            yield Checked(path, "hash", f"it can't be read: {error.strerror}")
            continue
        if content != expected:
            yield Checked(path, "hash", "its content is not the published one")
        elif pinned is None and path in known:
            yield Checked(path, "header", known[path])
        else:
            yield Checked(path, "hash", None)


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
