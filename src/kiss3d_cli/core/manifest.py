"""What a finished stage says of itself, and how a manifest read from disk is trusted: not at all until checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core import files
from kiss3d_cli.core.records import BadRecord, Fields, read_sealed, seal

SCHEMA_VERSION = 2
"""2: with a checksum."""
UNSEALED = 1
"""The newest schema without one."""
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
        files.write_durably(folder / MANIFEST, seal(record))


class UntrustedManifest(Exception):
    """A manifest that is not there whole, or says what it must not. Callers turn it into a state of the stage."""


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`. Raises UntrustedManifest with the reason in words."""
    try:
        record = read_sealed(folder / MANIFEST, SCHEMA_VERSION, UNSEALED)
        fields = Fields(record)
        if fields.text("status") != "complete":
            raise BadRecord("it is not marked complete")
        return Manifest(
            stage=fields.text("stage"),
            method=fields.text("method"),
            key=fields.text("key"),
            inputs=fields.text_by_name("inputs"),
            settings=fields.object("settings"),
            models=fields.text_by_name("models"),
            version=fields.whole("version"),
            started=fields.text("started"),
            finished=fields.text("finished"),
            seconds=fields.number("seconds"),
            peak_rss_bytes=fields.whole("peak_rss_bytes"),
            peak_vram_bytes=fields.optional_whole("peak_vram_bytes"),
            artifacts=tuple(
                Artifact(plain_path(entry.text("path")), entry.whole("bytes"), entry.text("sha256"))
                for entry in fields.objects("artifacts")
            ),
            warnings=fields.texts("warnings"),
            facts=fields.object("facts"),
        )
    except FileNotFoundError:
        raise UntrustedManifest("its manifest is missing") from None
    except BadRecord as error:
        raise UntrustedManifest(f"its manifest can't be used: {error}") from None
    except OSError as error:
        raise UntrustedManifest(f"its manifest can't be read: {error.strerror}") from None


def damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with a stage's files against its manifest, or None. Reads nothing outside the folder."""
    for artifact in manifest.artifacts:
        path = folder / artifact.path
        try:
            size = files.size_of(path, within=folder)
            if size != artifact.bytes:
                return f"{artifact.path} has {size} bytes instead of {artifact.bytes}"
            if files.sha256(path, within=folder) != artifact.sha256:
                return f"{artifact.path} was changed"
        except (FileNotFoundError, NotADirectoryError):
            return f"{artifact.path} is missing"
        except OSError as error:
            return f"{artifact.path} can't be read: {error.strerror}"
    return None


def plain_path(text: str) -> str:
    """A plain relative path, or BadRecord: a record must not lead anywhere else, on any system.

    Windows takes `a:b` for another stream or drive, `nul.txt` for a device, and drops dots and spaces at the end.
    """
    parts = text.split("/")
    unsafe = not 0 < len(text) <= 400 or re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', text) is not None
    for part in parts:
        unsafe = unsafe or part in ("", ".", "..") or part[-1] in ". " or _DEVICE.fullmatch(part) is not None
    if unsafe:
        raise BadRecord(f"{text[:80]!r} leads outside the run folder")
    return text


_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")
