"""All that a report shows of a run, read from its folder and from nowhere else. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Interrupted
from kiss3d_cli.core.files import is_safe, read_bytes
from kiss3d_cli.core.manifest import Manifest, UntrustedManifest, read_manifest
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.core.shell import typed
from kiss3d_cli.methods.registry import methods
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.inputs import kinds
from kiss3d_cli.pipeline.run_folder import RunFolder, RunRecord
from kiss3d_cli.pipeline.stages import stages
from kiss3d_cli.pipeline.status import StageStatus, read_status

STATES = {
    "done": "done",
    "failed": "failed",
    "interrupted": "interrupted",
    "damaged": "damaged",
    "stale": "not up to date",
    "partial": "not finished",
}
"""The states of a run, in words."""
_LARGEST_TEXT = 4 * 2**20
"""Bytes; a text file above this was not written by kiss3d."""


@dataclass(frozen=True)
class Failure:
    """How the last attempt at a stage ended.

    Attributes:
        error, hint: as they were told.
        traceback: for who reports a fault; may be empty.
        interrupted: the user stopped it; nothing is wrong.
    """

    stage: str
    error: str
    hint: str
    traceback: str
    interrupted: bool


@dataclass(frozen=True)
class StageView:
    """One stage: its status, and its manifest where its files are as recorded."""

    status: StageStatus
    title: str
    manifest: Manifest | None = None


@dataclass(frozen=True)
class RunView:
    """A run as its folder has it.

    Attributes:
        folder: the run folder.
        record: run.json.
        stages: all stages in their order.
        failures: of stages whose last attempt failed.
        state: done, failed, interrupted, damaged, stale or partial.
        changed: settings that differ from the preset's, by dotted key, with both values.
        again: a command that makes the same run, to be typed in the run folder.
    """

    folder: RunFolder
    record: RunRecord
    stages: tuple[StageView, ...]
    failures: tuple[Failure, ...]
    state: str
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    again: str = ""

    @property
    def seconds(self) -> float:
        """Of all stages that are there."""
        return sum(stage.manifest.seconds for stage in self.stages if stage.manifest is not None)

    def stage(self, name: str) -> StageView:
        return next(stage for stage in self.stages if stage.status.stage == name)

    def artifact(self, reference: str) -> Path | None:
        """The file behind `stage/path` of a stage whose files are as recorded, else None."""
        name, _, path = reference.partition("/")
        manifest = self.stage(name).manifest
        if manifest is None or manifest.sha256(path) is None:
            return None
        return own_file(self.folder.path, f"{self.folder.folder(name).name}/{path}")

    @property
    def exported(self) -> tuple[str, ...]:
        """Names of the files that the stage `export` wrote, without its record."""
        manifest = self.stage("export").manifest
        names = [] if manifest is None else [artifact.path for artifact in manifest.artifacts]
        return tuple(name for name in names if name != "export.json")

    def input(self, name: str) -> Path | None:
        """A file that the user gave, as it was copied into the run folder."""
        entry = self.record.inputs.get(name)
        return None if entry is None else own_file(self.folder.path, entry.path)

    def json(self, reference: str) -> dict[str, Any]:
        """A JSON object among the artifacts; empty if it is not there or not one."""
        path = self.artifact(reference)
        return {} if path is None else _read_object(path)


def read_run(folder: RunFolder) -> RunView:
    """Look at a run folder.

    Raises:
        BadInput: this is no run folder.
        DamagedRun: run.json can't be used.
    """
    record = folder.record()
    views = []
    failures = []
    for stage, status in zip(stages(), read_status(folder).rows, strict=True):
        manifest = None
        if status.status in ("done", "stale"):
            try:
                manifest = read_manifest(folder.folder(stage))
            except UntrustedManifest:  # it is whole, but not at its place yet: a kill came between two renames
                manifest = None
        views.append(StageView(status, stage.doing, manifest))
        path = own_file(folder.path, f"{folder.failed(stage).name}/error.json")
        details = {} if path is None else _read_object(path)
        if details or status.status == "failed":
            failures.append(
                Failure(
                    stage.name,
                    str(details.get("error") or status.reason),
                    str(details.get("hint") or ""),
                    str(details.get("traceback") or ""),
                    details.get("exit_code") == Interrupted.exit_code,
                )
            )
    changed = _changed(record)
    return RunView(
        folder,
        record,
        tuple(views),
        tuple(failures),
        _state([view.status.status for view in views], failures),
        changed,
        _again(record, changed),
    )


def own_file(root: Path, name: str) -> Path | None:
    """A file inside the run folder; None if it is not there, or is a link, or has other names."""
    path = root / name
    return path if is_safe(path, within=root) else None


def _state(statuses: list[str], failures: list[Failure]) -> str:
    if failures:
        return "interrupted" if all(failure.interrupted for failure in failures) else "failed"
    for state in ("damaged", "stale"):
        if state in statuses:
            return state
    return "partial" if "missing" in statuses else "done"


def _changed(record: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the preset's; all that differ from the defaults where the preset is not known."""
    try:
        base = configuration.load(configuration.preset_layer(record.preset))
    except BadInput:
        base = configuration.load()
    pairs = {key: (base[key], record.config[key]) for key in configuration.settings()}
    return {key: (before, now) for key, (before, now) in pairs.items() if now not in (before, *_stand_ins(key, before))}


def _stand_ins(key: str, value: Any) -> set[str | None]:
    """The methods that a method gives its place to, depending on the machine."""
    stage, _, field = key.partition(".")
    method = methods()[stage].get(value) if field == "method" and stage in methods() else None
    return set() if method is None else {method.instead(lambda _name: True), method.instead(lambda _name: False)}


def _again(record: RunRecord, changed: dict[str, tuple[Any, Any]]) -> str:
    words = ["kiss3d", "run"]
    for name, kind in kinds().items():
        entry = record.inputs.get(name)
        if entry is not None:
            given = entry.source if kind.typed else entry.path
            words += [kind.option, given] if kind.option.startswith("--") else [given]
    words += ["--preset", record.preset]
    for key, (_before, now) in changed.items():
        if key == "bundle.method" and now == "file":  # --bundle says so
            continue
        words += ["--seed", str(now)] if key == "seed" else ["--set", _assignment(key, now)]
    return typed(*words)


def _assignment(key: str, value: Any) -> str:
    """What `--set` takes; quoted where plain text would be read as something else."""
    plain = f"{key}={value}"
    if isinstance(value, str) and configuration.settings_layer([plain]) == configuration.settings_layer(
        [f"{key}={json.dumps(value)}"]
    ):
        return plain
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_bytes(path, _LARGEST_TEXT))
    except (OSError, BadRecord):
        return {}
    return found if isinstance(found, dict) else {}
