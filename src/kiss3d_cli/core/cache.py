"""The cache folder: small results that outlive a run and can be computed again."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path


def cache_folder() -> Path:
    """`KISS3D_CACHE`, or `kiss3d` in the user's cache folder of the system. The folder may not exist yet."""
    given = os.environ.get("KISS3D_CACHE")
    if given:
        return Path(os.path.expanduser(given))  # noqa: PTH111  # Path's own fails where there is no home
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else _home() / "AppData" / "Local") / "kiss3d" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "kiss3d"
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(os.path.expanduser(given)) / "kiss3d"  # noqa: PTH111
    return _home() / ".cache" / "kiss3d"


@cache
def _home() -> Path:
    """The user's home; a container may run as a user without one, who gets an empty folder for this process."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.mkdtemp(prefix="kiss3d-"))
