"""Where kiss3d keeps what it can make again: small results that outlive a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """`KISS3D_CACHE`, or `kiss3d` in the user's cache folder of the system. The folder may not exist yet."""
    given = os.environ.get("KISS3D_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "kiss3d" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kiss3d"
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given).expanduser() if given else Path.home() / ".cache") / "kiss3d"
