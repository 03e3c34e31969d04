"""The content of run.json: what was asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError, from_exception
from kiss3d_cli.core.files import is_link
from kiss3d_cli.core.records import BadRecord, Fields, UnknownSchema, read_sealed, seal
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.inputs import kinds

SCHEMA_VERSION = 2
"""2: with a checksum."""
UNSEALED = 1
"""The newest schema without one."""
RUN = "run.json"


@dataclasses.dataclass(frozen=True)
class Input:
    """A file that the user gave, copied into the run folder.

    Attributes:
        path: its name in the run folder.
        source: where it came from, for the record only.
    """

    path: str
    bytes: int
    sha256: str
    source: str


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The content of run.json."""

    name: str
    preset: str
    preset_reason: str
    config: Config
    inputs: Mapping[str, Input]
    created: str
    kiss3d: str
    device: Mapping[str, Any]
    libraries: Mapping[str, str]
    commands: tuple[str, ...]

    def to_json(self) -> bytes:
        record = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self), "seed": self.config["seed"]}
        record["config"] = configuration.to_dict(self.config)
        return seal(record)


def read_record(folder: Path) -> RunRecord:
    """Read the run.json of a run folder.

    Raises:
        BadInput: this is not a run folder, or run.json can't be read.
        DamagedRun: run.json is truncated, was changed, is of a newer schema, or leads outside the folder.
    """
    hint = "kiss3d status lists the runs in outputs/"
    try:
        raw = read_sealed(folder / RUN, SCHEMA_VERSION, UNSEALED)
    except (FileNotFoundError, NotADirectoryError):
        what = "this is not a run folder: it has no run.json" if folder.is_dir() else "no such run folder"
        raise BadInput(what, place=str(folder), hint=hint) from None
    except UnknownSchema as error:
        raise DamagedRun(
            f"run.json has schema version {error.version}; this kiss3d knows up to {SCHEMA_VERSION}",
            place=str(folder),
            hint="use the kiss3d that made it, or a newer one: pip install --upgrade kiss3d",
        ) from None
    except BadRecord as error:
        raise _damaged(folder, f"run.json is damaged: {error}") from None
    except OSError as error:
        raise from_exception(error) or error from None
    try:
        fields = Fields(raw)
        inputs = {}
        for name, entry in fields.object("inputs").items():
            if name not in kinds():
                raise BadRecord(f"unknown input {name[:40]}")
            own = Fields(entry, f"the input {name}")
            inputs[name] = Input(
                _own_file(folder, own.text("path")), own.whole("bytes"), own.text("sha256"), own.text("source")
            )
        return RunRecord(
            name=fields.text("name"),
            preset=fields.text("preset"),
            preset_reason=fields.text("preset_reason"),
            config=configuration.load(configuration.Layer("run.json", fields.object("config"))),
            inputs=inputs,
            created=fields.text("created"),
            kiss3d=fields.text("kiss3d"),
            device=fields.object("device"),
            libraries=fields.text_by_name("libraries"),
            commands=fields.texts("commands"),
        )
    except Kiss3dError as error:
        raise _damaged(folder, f"run.json: {error.cause[:2000]}") from None
    except BadRecord as error:
        raise _damaged(folder, f"run.json is not whole: {error}") from None


def created(folder: Path) -> float:
    """When a run was made, in seconds since 1970; of a run whose record can't be read, when that was written."""
    status = os.lstat(folder / RUN)
    return _created(folder, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _created(folder: Path, mtime_ns: int, _size: int) -> float:
    with contextlib.suppress(OSError, ValueError, OverflowError):
        text = Fields(read_sealed(folder / RUN, SCHEMA_VERSION, UNSEALED)).text("created")
        return datetime.fromisoformat(text).timestamp()
    return mtime_ns / 1e9


def _own_file(folder: Path, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}", text) or is_link(folder / text):
        raise BadRecord(f"'{text[:80]}' leads outside the run folder")
    return text


def _damaged(folder: Path, what: str) -> DamagedRun:
    return DamagedRun(
        what, place=str(folder), hint="start a new run with kiss3d run; finished stages can be copied over"
    )
