"""What the system's errors mean to a user: one table for all of them."""

from __future__ import annotations

import errno
import os

from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError, Missing, OutOfMemory
from kiss3d_cli.core.files import TooLarge, UnsafeFile

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REASONS = {
    errno.EACCES: ("permission denied", "check the permissions of the file and of its folder"),
    errno.EPERM: ("permission denied", "check the permissions of the file and of its folder"),
    errno.EROFS: ("its file system is read-only", "choose a folder on another disk"),
    errno.EFBIG: ("it would be larger than this file system or a limit (ulimit -f) allows", "use another disk"),
    errno.EIO: ("the disk or the network has an input/output error", "check the disk, then try again"),
    errno.ENAMETOOLONG: ("its name is too long", "use a shorter name"),
    errno.ELOOP: ("its path goes in a circle of links", "give the path of the file itself"),
    errno.ENOENT: ("there is no such file or folder", "check the spelling of the path"),
    errno.ENOTDIR: ("a part of its path is no folder", "check the spelling of the path"),
    errno.EISDIR: ("it is a folder", "give a file"),
    errno.EEXIST: ("something of that name is there already", "use another name"),
    errno.ENOTEMPTY: ("something of that name is there already", "use another name"),
    errno.ENODEV: ("its device is not there", "check that its disk is connected"),
    errno.ENXIO: ("its device is not there", "check that its disk is connected"),
    errno.EBUSY: ("another program uses it", "close that program, then try again"),
    errno.ETXTBSY: ("another program uses it", "close that program, then try again"),
    errno.ESTALE: ("the network file system lost it", "mount it again, then try again"),
    errno.EINVAL: ("this can't be the name of a file", "check the spelling of the path"),
}
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def understood(error: OSError, place: str | None = None) -> Kiss3dError | None:
    """The user's view of an error of the system; None for what a library raises as an OSError of its own, by no number.

    Args:
        place: what it is about, if the error names no file.
    """
    where = _text(error.filename) if error.filename is not None else place
    if isinstance(error, UnsafeFile | TooLarge):
        hint = "remove it if you did not put it there, or copy the folder with cp -rL and use the copy"
        return DamagedRun(f"it can't be trusted: {error.strerror}", place=where, hint=hint)
    if error.errno is None:
        return None
    doing = {"read": "read", "write": "written to"}.get(getattr(error, "doing", ""), "used")
    if error.errno in _FULL:
        return Missing("the disk is full", place=where, hint="free some space, then resume the run")
    if error.errno == errno.ENOMEM:
        return OutOfMemory(f"it can't be {doing}: out of memory", place=where, hint="close other programs")
    if error.errno in _TOO_MANY:
        hint = "raise the limit (ulimit -n 4096), or close other programs"
        return Missing(f"it can't be {doing}: too many files are open", place=where, hint=hint)
    reason, hint = _REASONS.get(error.errno, (os.strerror(error.errno).lower(), "try again, or choose another folder"))
    return BadInput(f"it can't be {doing}: {reason}", place=where, hint=hint)


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)
