"""One process at a time in a run folder.

The lock belongs to the operating system, so it goes when its process goes, however that ends; the file's content (pid
and host) is only for the message. It is asked about without being taken: on Linux the lock is one of an open file
(`F_OFD_SETLK`), on other Unix systems an flock, and both are seen by the query that fcntl has; on Windows a locked byte
can't be read. A file system that knows no locks gets a second file instead, which says who holds it, and since when.
Libraries for locks (filelock 3, portalocker 3) take every error for a busy lock or can only ask by taking it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kiss3d_cli.core import files
from kiss3d_cli.core.errors import RunInUse
from kiss3d_cli.core.records import BadRecord, Fields, parse_json

LOCK = "run.lock"
HOLDER = "run.lock.holder"
"""Instead of a lock, where the file system knows none."""
_BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
"""EACCES and EDEADLK are how fcntl and Windows say it."""
_LARGEST = 4096


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock.

    Raises:
        RunInUse: another process (or this one) holds it already.
        OSError: the lock's file can't be made; UnsafeFile if it is a link.
    """
    path = folder / LOCK
    with files.told("write", path):
        descriptor = files.open_file(path, os.O_RDWR | os.O_CREAT)
    held = None
    try:
        try:
            _take(descriptor)
        except OSError as error:
            if error.errno in _BUSY:
                raise _in_use(folder, path) from None
            held = _hold_without_locks(folder)
        with files.told("write", path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b" " + _me())  # the first byte is the locked one: Windows lets no other read it
        files.remove_partials(folder, ("run",))
        yield
    finally:
        os.close(descriptor)
        if held is not None:
            files.remove(held)


def is_locked(folder: Path) -> bool:
    """Whether someone works in the run folder now. Takes no lock and may be out of date when it returns."""
    path = folder / LOCK
    if _alive(_holder(folder / HOLDER)):
        return True
    try:
        descriptor = files.open_file(path)
    except OSError:
        return False
    try:
        return _is_taken(descriptor)
    except OSError as error:
        return error.errno in _BUSY
    finally:
        os.close(descriptor)


# -- where there are no locks -----------------------------------------------------------------------------------------


def _hold_without_locks(folder: Path) -> Path:
    """Make the holder's file, which only one process can; one that a dead process left is taken away first."""
    path = folder / HOLDER
    for _attempt in range(3):
        with files.told("write", path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                if _alive(_holder(path)):
                    raise _in_use(folder, path) from None
                files.remove(path)
                continue
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_me())
        return path
    raise _in_use(folder, path)


def _alive(holder: dict[str, Any] | None) -> bool:
    """Whether the process is there; on another host it may be."""
    import psutil

    if holder is None:
        return False
    if holder["host"] != _host():
        return True
    with contextlib.suppress(psutil.Error):
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 2)
    return False


def _me() -> bytes:
    import psutil

    me = {"pid": os.getpid(), "host": _host(), "started": psutil.Process().create_time()}
    return json.dumps(me).encode()


def _holder(path: Path) -> dict[str, Any] | None:
    try:
        with files.reading(path) as stream:
            if path.name == LOCK:
                stream.seek(1)
            fields = Fields(parse_json(stream.read(_LARGEST)))
        return {"pid": fields.whole("pid"), "host": fields.text("host"), "started": fields.number("started")}
    except (OSError, BadRecord):
        return None


def _in_use(folder: Path, path: Path) -> RunInUse:
    holder = _holder(path)
    owner = "" if holder is None else f" (process {holder['pid']} on {holder['host'][:64]})"
    hint = f"wait for it to end (kiss3d status {folder}), or stop it"
    if path.name == HOLDER and holder is not None and holder["host"] != _host():
        hint += f"; if nothing works there any more, remove {path}"
    return RunInUse(f"another process works in it{owner}", place=str(folder), hint=hint)


def _host() -> str:
    try:
        return socket.gethostname()
    except OSError:
        return "an unknown host"


# -- the system's locks -----------------------------------------------------------------------------------------------

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _is_taken(descriptor: int) -> bool:
        os.read(descriptor, 1)  # PermissionError where another has locked it
        return False

else:
    import fcntl

    _QUERY = struct.Struct("hhqqi4x")
    """struct flock of 64-bit Linux: type, whence, start, length, pid."""

    def _take(descriptor: int) -> None:
        if hasattr(fcntl, "F_OFD_SETLK"):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _QUERY.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _is_taken(descriptor: int) -> bool:
        if hasattr(fcntl, "F_OFD_GETLK"):
            found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _QUERY.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            return _QUERY.unpack(found)[0] != fcntl.F_UNLCK
        query = struct.Struct("qqihh").pack(0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)  # of macOS and the BSDs
        found = fcntl.fcntl(descriptor, fcntl.F_GETLK, query)
        return struct.Struct("qqihh").unpack(found)[3] != fcntl.F_UNLCK
