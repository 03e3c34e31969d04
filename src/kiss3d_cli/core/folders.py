"""What is in a folder, or an error: pathlib's glob takes a folder that can't be read for an empty one.

Then a stage would be said to have written nothing, weights to be absent, a folder of runs to be empty.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path

from kiss3d_cli.core.files import told


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What is directly in a folder and has such a name, sorted; nothing if there is no such folder.

    Args:
        pattern: of `fnmatch`, case-sensitive.

    Raises:
        OSError: the folder can't be read.
    """
    try:
        with told("read", folder):
            return sorted(path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def all_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Everything in a folder and in the folders in it that has such a name, sorted. Links to folders are not followed.

    Raises:
        OSError: a folder can't be read.
    """
    found: list[Path] = []
    with told("read", folder):
        for place, folders, files in os.walk(folder, onerror=_unless_gone):
            found += [Path(place) / name for name in (*folders, *files) if fnmatch.fnmatchcase(name, pattern)]
    return sorted(found)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
