"""Records that were changed by someone who knows how they are sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kiss3d_cli.core.records import seal


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a sealed record in place, and seal it again."""
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["checksum"]
    change(record)
    path.write_bytes(seal(record))


def unseal(path: Path) -> None:
    """Turn a record into one of before there were checksums."""
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["checksum"]
    record["schema_version"] = 1
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
