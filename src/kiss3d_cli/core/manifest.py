"""What a finished stage says of itself, and how a manifest read from disk is trusted: not at all until checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from kiss3d_cli.core.files import write_durably
from kiss3d_cli.core.hashing import file_sha256

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One file of a stage: its path relative to the stage's folder, its size and its hash."""

    path: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The record of a finished stage.

    Attributes:
        stage, method: which, and how.
        key: hash of all that the result depends on (see pipeline.plan).
        inputs: hash of every artifact read, by reference (`stage/path` or the name of an input).
        settings: every setting used, by its dotted key.
        models: identity of every model used, by its registry name.
        version: code version of the method.
        started, finished: ISO 8601, UTC.
        seconds: wall time.
        peak_rss_bytes: most resident memory of the process while the stage ran.
        peak_vram_bytes: most allocated video memory; None without a GPU.
        artifacts: the files written.
        warnings: what the user should know, in sentences.
        facts: what the stage measured, by name.
    """

    stage: str
    method: str
    key: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    models: Mapping[str, str]
    version: int
    started: str
    finished: str
    seconds: float
    peak_rss_bytes: int
    peak_vram_bytes: int | None
    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def sha256(self, path: str) -> str | None:
        return next((artifact.sha256 for artifact in self.artifacts if artifact.path == path), None)

    def write(self, folder: Path) -> None:
        record = {"schema_version": SCHEMA_VERSION, "status": "complete", **dataclasses.asdict(self)}
        write_durably(folder / MANIFEST, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


class UntrustedManifest(Exception):
    """A manifest that is not there whole, or says what it must not. Callers turn it into a state of the stage."""


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`. Raises UntrustedManifest with the reason in words."""
    path = folder / MANIFEST
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UntrustedManifest("its manifest is missing") from None
    except (OSError, ValueError):
        raise UntrustedManifest("its manifest can't be read") from None
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise UntrustedManifest("its manifest has no schema version")
    if record["schema_version"] > SCHEMA_VERSION:
        raise UntrustedManifest("its manifest was written by a newer kiss3d")
    if record.get("status") != "complete":
        raise UntrustedManifest("its manifest is not marked complete")
    try:
        artifacts = tuple(
            Artifact(_inside(entry["path"]), int(entry["bytes"]), str(entry["sha256"])) for entry in record["artifacts"]
        )
        peak_vram = record["peak_vram_bytes"]
        return Manifest(
            stage=str(record["stage"]),
            method=str(record["method"]),
            key=str(record["key"]),
            inputs={str(name): str(value) for name, value in dict(record["inputs"]).items()},
            settings=dict(record["settings"]),
            models={str(name): str(value) for name, value in dict(record["models"]).items()},
            version=int(record["version"]),
            started=str(record["started"]),
            finished=str(record["finished"]),
            seconds=float(record["seconds"]),
            peak_rss_bytes=int(record["peak_rss_bytes"]),
            peak_vram_bytes=None if peak_vram is None else int(peak_vram),
            artifacts=artifacts,
            warnings=tuple(str(text) for text in record["warnings"]),
            facts=dict(record["facts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UntrustedManifest(f"its manifest is not whole ({type(error).__name__}: {error})") from None


def damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with a stage's files against its manifest, or None. Reads nothing outside the folder."""
    root = folder.resolve()
    for artifact in manifest.artifacts:
        path = folder / artifact.path
        if not path.resolve().is_relative_to(root):
            return f"{artifact.path} leads outside the run folder"
        if not path.is_file():
            return f"{artifact.path} is missing"
        if path.stat().st_size != artifact.bytes:
            return f"{artifact.path} has {path.stat().st_size} bytes instead of {artifact.bytes}"
        if file_sha256(path) != artifact.sha256:
            return f"{artifact.path} was changed"
    return None


def _inside(path: object) -> str:
    """A plain relative path, or ValueError: a manifest must not lead anywhere else."""
    text = str(path)
    unsafe = (
        not text
        or "\\" in text
        or PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).drive
        or any(part in ("..", ".") for part in text.split("/"))
    )
    if unsafe:
        raise ValueError(f"'{text[:80]}' leads outside the run folder")
    return text
