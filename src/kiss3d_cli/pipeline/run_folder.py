"""A run on disk.

    <name>-<yyyymmdd-hhmmss>/
      run.json              what was asked for
      input.png             the picture as given
      preprocess/           a finished stage: its artifacts and manifest.json
      .caption.partial/     a stage at work
      .caption.old/         the stage that is being replaced, between two renames
      .caption.scratch/     what an attempt that was cut short leaves to the next
      caption.failed/       what a failed stage left, with error.json
      log.jsonl             every event

Older folders have numbers before the stages' names (`01-preprocess/`); they keep them.

A stage is written to `.partial`, its manifest last, and comes to its place by one rename. Where an older result has to
go first, that is two renames; `settle` finishes or undoes them after a kill in between.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError
from kiss3d_cli.core.files import move, remove, sync_folder, write_durably
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.manifest import (
    Manifest,
    UntrustedManifest,
    damage,
    read_manifest,
)
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.stages import Stage

SCHEMA_VERSION = 1
RUN = "run.json"
LOG = "log.jsonl"
SCRATCH_KEY = "key"
INPUT_NAMES = ("picture", "bundle", "ground_truth")


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
        return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


@dataclasses.dataclass(frozen=True)
class Absent:
    """The stage was not made yet; `failure` is the error of the last attempt, if one failed."""

    failure: str | None = None


@dataclasses.dataclass(frozen=True)
class Damaged:
    """The stage is there and can't be used."""

    what: str


@dataclasses.dataclass(frozen=True)
class Complete:
    """The stage is there and its files are as its manifest says."""

    manifest: Manifest


StageState = Absent | Damaged | Complete


class RunFolder:
    """The files of one run. Reading needs no lock; whoever writes holds `lock.locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- the run itself -------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, parent: Path, record: RunRecord, files: Mapping[str, Path]) -> RunFolder:
        """Make a new run folder with its inputs; it appears under its name only when it is whole.

        Args:
            parent: the folder of runs, made if it is not there.
            record: what was asked for; its `inputs` are filled in here.
            files: the user's files by input name.

        Raises:
            BadInput: the parent can't be written to.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            partial = parent / f".{record.name}-{stamp}-{os.getpid()}.partial"
            partial.mkdir()
        except (PermissionError, FileExistsError, NotADirectoryError, OSError) as error:
            if getattr(error, "errno", None) == 28:
                raise
            raise BadInput(
                f"no run folder can be made there ({error.strerror})", place=str(parent), hint="choose another --out"
            ) from None
        inputs = {}
        try:
            for name, source in files.items():
                stem = "input" if name == "picture" else name
                target = partial / f"{stem}{source.suffix.lower()}"
                shutil.copyfile(source, target)
                inputs[name] = Input(target.name, target.stat().st_size, file_sha256(target), str(source))
            write_durably(partial / RUN, dataclasses.replace(record, inputs=inputs).to_json())
            final = _free_name(parent, f"{record.name}-{stamp}")
            move(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(parent)
        return cls(final)

    def record(self) -> RunRecord:
        """Read run.json.

        Raises:
            BadInput: this is not a run folder.
            DamagedRun: run.json is truncated, of a newer schema, or leads outside the folder.
        """
        path = self.path / RUN
        if not self.path.is_dir():
            raise BadInput("no such run folder", place=str(self.path), hint="look for one under outputs/")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(
                "this is not a run folder: it has no run.json", place=str(self.path), hint="look for one under outputs/"
            ) from None
        except (OSError, ValueError):
            raise self._damaged("run.json can't be read: it is truncated or not JSON") from None
        if not isinstance(raw, dict) or not isinstance(raw.get("schema_version"), int):
            raise self._damaged("run.json has no schema version")
        if raw["schema_version"] > SCHEMA_VERSION:
            raise DamagedRun(
                f"run.json has schema version {raw['schema_version']}; this kiss3d knows up to {SCHEMA_VERSION}",
                place=str(self.path),
                hint="use the kiss3d that made it, or a newer one: pip install --upgrade kiss3d",
            )
        try:
            inputs = {}
            for name, entry in dict(raw["inputs"]).items():
                if name not in INPUT_NAMES:
                    raise ValueError(f"unknown input {str(name)[:40]}")
                inputs[name] = Input(
                    self._own_file(entry["path"]), int(entry["bytes"]), str(entry["sha256"]), str(entry["source"])
                )
            config = configuration.load(configuration.Layer("run.json", dict(raw["config"])))
            return RunRecord(
                name=str(raw["name"]),
                preset=str(raw["preset"]),
                preset_reason=str(raw["preset_reason"]),
                config=config,
                inputs=inputs,
                created=str(raw["created"]),
                kiss3d=str(raw["kiss3d"]),
                device=dict(raw["device"]),
                libraries=dict(raw["libraries"]),
                commands=tuple(str(command) for command in raw["commands"]),
            )
        except Kiss3dError as error:
            raise self._damaged(f"run.json: {error.cause}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"run.json is not whole ({type(error).__name__}: {error})") from None

    def rewrite(self, record: RunRecord) -> None:
        write_durably(self.path / RUN, record.to_json())

    def check_inputs(self, record: RunRecord) -> None:
        """Raises DamagedRun if a copied input is gone or was changed: nothing could be made again from it."""
        for entry in record.inputs.values():
            path = self.path / entry.path
            if not path.is_file() or file_sha256(path) != entry.sha256:
                state = "was changed" if path.is_file() else "is missing"
                raise DamagedRun(
                    f"its input {entry.path} {state}",
                    place=str(self.path),
                    hint=f"copy {entry.source} there again, or start a new run",
                )

    def log(self, event: str, **details: Any) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"time": _now(), "event": event, **details}, ensure_ascii=False, default=str)
        with (self.path / LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def _own_file(self, name: object) -> str:
        text = str(name)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}", text) or (self.path / text).is_symlink():
            raise ValueError(f"'{text[:80]}' leads outside the run folder")
        return text

    def _damaged(self, what: str) -> DamagedRun:
        return DamagedRun(
            what, place=str(self.path), hint="start a new run with kiss3d run; finished stages can be copied over"
        )

    # -- its stages -----------------------------------------------------------------------------------------------

    def folder(self, stage: Stage | str) -> Path:
        return self.path / self._name(stage)

    def partial(self, stage: Stage) -> Path:
        return self.path / f".{self._name(stage)}.partial"

    def failed(self, stage: Stage) -> Path:
        return self.path / f"{self._name(stage)}.failed"

    def scratch(self, stage: Stage) -> Path:
        return self.path / f".{self._name(stage)}.scratch"

    def _old(self, stage: Stage) -> Path:
        return self.path / f".{self._name(stage)}.old"

    def _name(self, stage: Stage | str) -> str:
        """The name of a stage's folder: the stage's, or that with a number, where an older kiss3d left anything."""
        name = stage if isinstance(stage, str) else stage.name
        numbered = re.compile(rf"\.?(\d\d-{re.escape(name)})(\.partial|\.old|\.scratch|\.failed)?")
        found = (numbered.fullmatch(path.name) for path in self.path.glob("*"))
        return min((match[1] for match in found if match is not None), default=name)

    def inspect(self, stage: Stage) -> StageState:
        """The state of a stage, every artifact's hash checked. Changes nothing."""
        # After a kill between the two renames of `put`, the new result is whole in `.partial`, or only the old is left.
        places = (self.folder(stage), self.partial(stage), self._old(stage))
        folder = next((place for place in places if place.exists() and (place is places[0] or _whole(place))), None)
        if folder is None:
            return Absent(self._failure(stage))
        if folder.is_symlink() or not folder.is_dir():
            return Damaged("it is a link or a file instead of a folder")
        try:
            manifest = read_manifest(folder)
        except UntrustedManifest as error:
            return Damaged(str(error))
        if manifest.stage != stage.name:
            return Damaged(f"its manifest is that of another stage, {manifest.stage[:40]}")
        what = damage(folder, manifest)
        return Complete(manifest) if what is None else Damaged(what)

    def settle(self, stage: Stage) -> None:
        """Finish or undo what a kill left half done, so that `folder(stage)` is the only result there is."""
        final, partial, old = self.folder(stage), self.partial(stage), self._old(stage)
        if not final.exists():
            if _whole(partial):
                move(partial, final)
            elif old.exists():
                move(old, final)
        for leftover in (partial, old):
            remove(leftover)
        # a kill right after it came to its place; scratch of an attempt at another result is still of use
        if _whole(final) and self._scratch_key(stage) in (None, read_manifest(final).key):
            remove(self.scratch(stage))

    def begin(self, stage: Stage, key: str) -> Path:
        """An empty `.partial` folder; the scratch of another key is dropped."""
        partial, scratch = self.partial(stage), self.scratch(stage)
        remove(partial)
        partial.mkdir()
        if scratch.exists() and self._scratch_key(stage) != key:
            remove(scratch)
        if not scratch.exists():
            scratch.mkdir()
            (scratch / SCRATCH_KEY).write_text(key)
        return partial

    def put(self, stage: Stage, manifest: Manifest) -> None:
        """Bring the partial folder to its place; the manifest is the last thing written to it."""
        final, partial, old = self.folder(stage), self.partial(stage), self._old(stage)
        for artifact in manifest.artifacts:
            descriptor = os.open(partial / artifact.path, os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)
        manifest.write(partial)
        if final.exists() or final.is_symlink():
            move(final, old)
        move(partial, final)
        sync_folder(self.path)
        for leftover in (old, self.failed(stage), self.scratch(stage)):
            remove(leftover)

    def set_aside(self, stage: Stage, error: Mapping[str, Any]) -> Path:
        """Keep what a failed stage wrote, with the error in it."""
        partial, failed = self.partial(stage), self.failed(stage)
        remove(failed)
        if not partial.exists():
            partial.mkdir()
        write_durably(partial / "error.json", (json.dumps(error, indent=2, ensure_ascii=False) + "\n").encode())
        move(partial, failed)
        return failed

    def _scratch_key(self, stage: Stage) -> str | None:
        """The key of the attempt that left its scratch; None without one, or if it was killed before it was written."""
        try:
            return (self.scratch(stage) / SCRATCH_KEY).read_text() or None
        except OSError:
            return None

    def _failure(self, stage: Stage) -> str | None:
        try:
            return str(json.loads((self.failed(stage) / "error.json").read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _whole(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        manifest = read_manifest(folder)
    except UntrustedManifest:
        return False
    return damage(folder, manifest) is None


def _free_name(parent: Path, name: str) -> Path:
    candidate, count = parent / name, 1
    while candidate.exists():
        count += 1
        candidate = parent / f"{name}-{count}"
    return candidate


def run_name(text: str) -> str:
    """A file name's stem, or what the user typed, as the name of a folder."""
    name = re.sub(r"[^\w.-]+", "-", text, flags=re.UNICODE).strip("-.")[:60]
    return name or "run"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def find_runs(parent: Path) -> list[RunFolder]:
    """Every run folder in a folder, the newest first."""
    if not parent.is_dir():
        return []
    found = [path.parent for path in parent.glob(f"*/{RUN}") if not path.parent.name.startswith(".")]
    return [RunFolder(path) for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)]
