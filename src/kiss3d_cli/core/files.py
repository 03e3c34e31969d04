"""The one door to files at names that anyone can predict: in folders of runs, of results, of data sets, of caches.

Such a folder may come from elsewhere, and then a record's name may be a link to a file of the user's own, a pipe that
nobody writes to, or a second name of a file outside. So what is opened here is a regular file with one name, reached
through folders that are no links; what is written comes to its place as a whole, from a partial file whose name nobody
can foresee. Files that the user names are opened with `open_given`, which follows links.

Every error that the system raises here says whether it was a read or a write (`core.errors.from_exception`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8) if os.name == "nt" else ()
"""Seconds. On Windows a virus scanner or the search index holds what was just written for a moment."""
_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
"""A pipe is opened without waiting for its other end, and then refused."""
_REPARSE = 0x400
"""Windows' attribute of links, junctions and mount points."""

_PARTIAL = re.compile(r"\.(.{1,40})\.[0-9a-f]{16}\.partial(?:\..{0,15})?", re.DOTALL)
_STALE = 3600.0
"""Seconds after which nobody is writing a partial file any more."""


class UnsafeFile(OSError):
    """What is at the name is no regular file of its own: a link, one of several names of a file, a pipe, a folder."""

    def __init__(self, what: str, path: Path | str) -> None:
        super().__init__(errno.ELOOP, what, str(path))


class TooLarge(OSError):
    """The file is larger than anything that kiss3d writes under such a name."""

    def __init__(self, limit: int, path: Path | str) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {limit:,} bytes", str(path))


@contextmanager
def told(doing: str, path: Path | str) -> Iterator[None]:
    """Note on an error of the system whether it met a `read` or a `write`, and at which file, if that is not known."""
    try:
        yield
    except OSError as error:
        if not hasattr(error, "doing"):
            error.doing = doing  # type: ignore[attr-defined]
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


# -- reading ----------------------------------------------------------------------------------------------------------


def open_file(path: Path, flags: int = os.O_RDONLY, *, within: Path | None = None) -> int:
    """Open a regular file with one name and return its descriptor.

    Args:
        path: the file.
        flags: as of `os.open`; what keeps links and pipes out is added.
        within: a folder above it that is trusted to be what it is; none between it and the file may be a link.

    Raises:
        UnsafeFile: a link, a file with several names, a pipe, a device or a folder.
        OSError: it can't be opened.
    """
    _check_name(path)
    _check_way(path, within)
    with contextlib.suppress(FileNotFoundError):
        _check_file(os.lstat(path), path)
    descriptor = os.open(path, flags | _SAFE, 0o666)
    try:
        _check_file(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def reading(path: Path, *, within: Path | None = None) -> Iterator[io.BufferedReader]:
    """Open a file at a predictable name. Raises as `open_file`."""
    with told("read", path), os.fdopen(open_file(path, within=within), "rb") as stream:
        yield stream


def read_bytes(path: Path, limit: int, *, within: Path | None = None) -> bytes:
    """The content of a file at a predictable name. Raises as `open_file`, and TooLarge above `limit` bytes."""
    with reading(path, within=within) as stream:
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(limit, path)
    return data


def sha256(path: Path, *, within: Path | None = None) -> str:
    """The content hash of a file at a predictable name. Raises as `open_file`."""
    with reading(path, within=within) as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(2**20):
            digest.update(chunk)
        return digest.hexdigest()


def size_of(path: Path, *, within: Path | None = None) -> int:
    """The size in bytes of a file at a predictable name, which is not opened. Raises as `open_file`."""
    with told("read", path):
        _check_way(path, within)
        status = os.lstat(path)
        _check_file(status, path)
        return status.st_size


def is_safe(path: Path, *, within: Path | None = None) -> bool:
    """Whether there is a file that `open_file` would open."""
    try:
        size_of(path, within=within)
    except (OSError, ValueError):  # ValueError: a name with a NUL in it
        return False
    return True


@contextmanager
def open_given(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file that the user named: links are followed, a pipe or a device is refused at once."""
    flags = _SAFE & ~getattr(os, "O_NOFOLLOW", 0)
    with told("read", path):
        _check_name(path)
        descriptor = os.open(path, os.O_RDONLY | flags)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafeFile("it is not a regular file", path)
        with os.fdopen(descriptor, "rb") as stream:
            yield stream


# -- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path` to write to by its name; it takes the place of `path` at the end, as a whole.

    For libraries that write to a name. The name is not to be foreseen, and ends like `path`.
    """
    with told("write", path):
        partial, descriptor = _new_file(path)
        os.close(descriptor)
        try:
            yield partial
            sync_file(partial)
            move(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file as a whole: a reader, or a kill at any moment, sees the old content or the new."""
    with told("write", path):
        partial, descriptor = _new_file(path)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            move(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def copy_own(source: Path, target: Path, *, within: Path | None = None) -> None:
    """Copy a file at a predictable name to another, which it replaces as a whole. Raises as `open_file`."""
    with reading(source, within=within) as given, replacing(target) as partial, partial.open("wb") as stream:
        shutil.copyfileobj(given, stream, 2**20)


def create(path: Path) -> io.BufferedWriter:
    """A new file of this name, open to write to; what is there is removed, and no link followed."""
    with told("write", path):
        remove(path)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666), "wb")


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, which is made if it is not there. Raises as `open_file`."""
    with told("write", path):
        descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(data)


def copy_given(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file that the user named to a name that is free.

    Returns:
        Its bytes and its sha256, as they were read.

    Raises:
        FileExistsError: something is at `target`.
    """
    digest, size = hashlib.sha256(), 0
    with open_given(source) as given, told("write", target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666)
        with os.fdopen(descriptor, "wb") as stream:
            while True:
                with told("read", source):
                    chunk = given.read(2**20)
                if not chunk:
                    break
                digest.update(chunk)
                size += stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    return size, digest.hexdigest()


def make_folder(path: Path) -> None:
    """A folder of our own in a folder of a run; whatever else is at its name is removed, not followed."""
    with told("write", path):
        if is_link(path) or (path.exists() and not path.is_dir()):
            remove(path)
        path.mkdir(exist_ok=True)


def remove_partials(folder: Path, stems: tuple[str, ...] = ()) -> None:
    """Remove what kills left of files that were being written.

    Args:
        folder: where to look; not below it.
        stems: files that no one else can be writing now; the partial files of others go when they are an hour old.
    """
    with told("write", folder):
        for entry in os.scandir(folder):
            match = _PARTIAL.fullmatch(entry.name)
            if match is None or entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(FileNotFoundError):
                if match[1] in stems or time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                    remove(Path(entry.path))


def move(source: Path, target: Path) -> None:
    """Rename a file, replacing what is there, or a folder to a free name."""
    with told("write", target):
        _patiently(lambda: source.replace(target))


def move_to_free_name(source: Path, names: Iterator[Path]) -> Path:
    """Rename a folder to the first name that is free, whoever else takes names at the same time."""
    for target in names:
        if os.path.lexists(target):
            continue
        try:
            move(source, target)
        except OSError:
            if not os.path.lexists(target):
                raise
            continue  # it was taken since
        return target
    raise AssertionError("names never end")


def remove(path: Path) -> None:
    """Remove a file, a folder, or a link without what it points to; nothing if there is nothing."""
    with told("write", path):
        if is_link(path):
            _patiently(lambda: path.rmdir() if os.name == "nt" and path.is_dir() else path.unlink())
        elif path.is_dir():
            _patiently(lambda: shutil.rmtree(path))
        elif os.path.lexists(path):
            _patiently(path.unlink)


def sync_file(path: Path) -> None:
    """Make a file's content durable. Raises as `open_file`."""
    with told("write", path):
        descriptor = open_file(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; Windows neither needs nor allows it, nor do some file systems."""
    if os.name == "nt":
        return
    with told("write", folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                raise
        finally:
            os.close(descriptor)


def is_link(path: Path) -> bool:
    """Whether a name is a symbolic link, or a junction of Windows."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_file_attributes", 0) & _REPARSE)


# -- what both need ---------------------------------------------------------------------------------------------------


def _check_name(path: Path) -> None:
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name has a NUL in it", str(path))


def _check_way(path: Path, within: Path | None) -> None:
    if within is None:
        return
    for folder in path.parents:
        if folder == within:
            return
        if is_link(folder):
            raise UnsafeFile("it is a link", folder)
    raise UnsafeFile(f"it is not in {within}", path)


def _check_file(status: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(status.st_mode) or getattr(status, "st_file_attributes", 0) & _REPARSE:
        raise UnsafeFile("it is a link", path)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file", path)
    if status.st_nlink > 1:
        raise UnsafeFile("it is one of several names of a file (a hard link)", path)


def _new_file(path: Path) -> tuple[Path, int]:
    """A new file beside `path`; its name can't be foreseen, and `remove_partials` knows it again."""
    while True:
        partial = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.partial{path.suffix[:16]}")
        try:
            return partial, os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o666)
        except FileExistsError:
            continue


def _patiently(action: Callable[[], T]) -> T:
    for wait in _WAITS:
        try:
            return action()
        except PermissionError:
            time.sleep(wait)
    return action()
