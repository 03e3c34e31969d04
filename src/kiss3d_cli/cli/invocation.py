"""Commands in messages, as this user has to type them: kiss3d may be in a virtual environment that is not active."""

from __future__ import annotations

import os
import re
import shutil
import sys
from functools import cache
from pathlib import Path

from kiss3d_cli.core.shell import typed

_COMMANDS = "run|resume|status|eval|export|report|ui|serve|doctor|models|train|study"
_KISS3D = re.compile(rf"(?<![\w/\\.'-])kiss3d(?= (?:{_COMMANDS})\b)")
_PIP = re.compile(r"(?<![\w/\\.'-])pip(?= install )")


def as_typed_here(text: str) -> str:
    """The text with `kiss3d` and `pip` in its commands as they are called from where this process was started.

    A hint says `kiss3d resume DIR`; whoever typed `.venv/bin/kiss3d run` gets `.venv/bin/kiss3d resume DIR`.
    """
    try:
        folder = str(Path.cwd())
    except OSError:  # it was removed
        return text
    kiss3d, pip = _programs(sys.argv[0] if sys.argv else "", folder)
    return _PIP.sub(lambda _found: pip, _KISS3D.sub(lambda _found: kiss3d, text))


@cache
def _programs(started: str, folder: str) -> tuple[str, str]:
    path = Path(started)
    if path.name == "__main__.py" and path.parent.name == "kiss3d_cli":
        python = _short(sys.executable, "python3" if os.name != "nt" else "python", folder)
        return f"{python} -m kiss3d_cli", f"{python} -m pip"
    if path.stem != "kiss3d" or not path.parent.name or _is_first(path, "kiss3d"):
        return "kiss3d", "pip"
    beside = path.with_name("pip" + path.suffix)
    pip = typed(_relative(beside, folder)) if beside.exists() else f"{_short(sys.executable, 'python', folder)} -m pip"
    return typed(_relative(path, folder)), pip


def _is_first(path: Path, name: str) -> bool:
    """Whether the shell finds this very program by its name."""
    found = shutil.which(name)
    return found is not None and path.exists() and path.samefile(found)


def _short(program: str, name: str, folder: str) -> str:
    return name if program and _is_first(Path(program), name) else typed(_relative(Path(program or name), folder))


def _relative(path: Path, folder: str) -> str:
    """A path as one would type it from a folder: relative where it is below, and never without any folder."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return str(path)
    if relative.startswith(".."):
        return str(path) if path.is_absolute() else os.path.normpath(path)
    return relative if os.sep in relative else f".{os.sep}{relative}"
