"""Content hashes of files and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.files import open_given


def file_sha256(path: Path) -> str:
    """Hash of a file that the user named; `files.sha256` is for files at predictable names."""
    digest = hashlib.sha256()
    with open_given(path) as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def json_sha256(values: Mapping[str, Any]) -> str:
    """Hash of a JSON-able mapping, independent of the order of its keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
