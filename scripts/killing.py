"""Killing a process at its Nth write below a folder, through Python's own audit events."""

from __future__ import annotations

import os
import signal
import sys

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")


def is_write(event: str, arguments: tuple, root: str) -> bool:
    """Whether an audit event is a write below `root`; reading does not change what a kill leaves."""
    if event not in EVENTS:
        return False
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path).startswith(root):
        return event in ("os.rmdir", "os.remove")  # rmtree names these relative to an open folder
    mode = arguments[1] if event == "open" else "w"
    flags = arguments[2] if event == "open" else 0
    return event != "open" or (mode is not None and any(c in str(mode) for c in "wax+")) or bool(flags & os.O_WRONLY)


def die_at_write(root: str, boundary: int, seen: list[int]) -> None:
    """From now on count writes below `root` in `seen[0]`, and kill this process just before number `boundary`."""

    def hook(event: str, arguments: tuple) -> None:
        if is_write(event, arguments, root):
            seen[0] += 1
            if seen[0] == boundary:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
