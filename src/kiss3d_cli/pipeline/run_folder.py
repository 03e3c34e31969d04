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

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiss3d_cli.core import files
from kiss3d_cli.core.errors import BadInput, DamagedRun
from kiss3d_cli.core.files import is_link, make_folder, move, remove, sync_folder, write_durably
from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.manifest import Manifest, UntrustedManifest, damage, read_manifest
from kiss3d_cli.core.records import BadRecord, Fields, parse_json, whole_text, write_json
from kiss3d_cli.image.formats import suffix_of
from kiss3d_cli.pipeline.inputs import Given, Joined, kinds
from kiss3d_cli.pipeline.names import run_name as run_name
from kiss3d_cli.pipeline.run_record import RUN as RUN
from kiss3d_cli.pipeline.run_record import Input, created, read_record
from kiss3d_cli.pipeline.run_record import RunRecord as RunRecord
from kiss3d_cli.pipeline.stages import Stage

LOG = "log.jsonl"
SCRATCH_KEY = "key"
PICTURES = ("picture", "mask", "right", "back", "left", "bundle", "template")
LARGEST_ERROR = 2**20
"""Bytes of error.json."""
_STALE = 86400.0


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
    def create(cls, parent: Path, record: RunRecord, given: Mapping[str, Given]) -> RunFolder:
        """Make a new run folder with its inputs; it appears under its name only when it is whole.

        Args:
            parent: the folder of runs, made if it is not there.
            record: what was asked for; its `inputs` are filled in here.
            given: what the user gave, by the name of its kind.

        Raises:
            BadInput: the parent can't be written to.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            partial = parent / f".{record.name}-{stamp}-{secrets.token_hex(4)}.partial"
            partial.mkdir()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise BadInput(
                f"no run folder can be made there ({reason})", place=str(parent), hint="choose another --out"
            ) from None
        try:
            inputs = {}
            for name, value in given.items():
                source = value.path if isinstance(value, Joined) else value
                said = whole_text(value.source if isinstance(value, Joined) else str(value))
                if isinstance(source, str):
                    target = partial / f"{kinds()[name].stem}.txt"
                    write_durably(target, source.encode())
                    inputs[name] = Input(target.name, target.stat().st_size, file_sha256(target), said)
                    continue
                if (pack := kinds()[name].pack) is not None:
                    target = partial / f"{kinds()[name].stem}{pack[0]}"
                    pack[1](source, target)
                    size = target.stat().st_size
                    inputs[name] = Input(target.name, size, file_sha256(target), whole_text(str(source)))
                    continue
                suffix = suffix_of(source) if name in PICTURES else source.suffix.lower()
                stem = kinds()[name].stem
                target = partial / (stem + (suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""))
                inputs[name] = Input(target.name, *files.copy_given(source, target), said)
            write_durably(partial / RUN, dataclasses.replace(record, inputs=inputs).to_json())
            final = files.move_to_free_name(partial, _names(parent, f"{record.name}-{stamp}"))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(parent)
        _remove_old_attempts(parent)
        return cls(final)

    def record(self) -> RunRecord:
        """Read run.json.

        Raises:
            BadInput: this is not a run folder.
            DamagedRun: run.json is truncated, of a newer schema, or leads outside the folder.
        """
        return read_record(self.path)

    def rewrite(self, record: RunRecord) -> None:
        write_durably(self.path / RUN, record.to_json())

    def check_inputs(self, record: RunRecord) -> None:
        """Raises DamagedRun if a copied input is gone or was changed: nothing could be made again from it."""
        for entry in record.inputs.values():
            path, state = self.path / entry.path, None
            try:
                if files.sha256(path) != entry.sha256:
                    state = "was changed"
            except FileNotFoundError:
                state = "is missing"
            except files.UnsafeFile as error:
                state = f"can't be used: {error.strerror}"
            if state is not None:
                raise DamagedRun(
                    f"its input {entry.path} {state}",
                    place=str(self.path),
                    hint=f"copy {entry.source} there again, or start a new run",
                )

    def log(self, event: str, **details: Any) -> None:
        """Append one event to log.jsonl."""
        entry = whole_text({"time": _now(), "event": event, **details})
        line = json.dumps(entry, ensure_ascii=False, default=str) + "\n"
        files.append(self.path / LOG, line.encode())

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
        # asked for hundreds of times a run: names that can't be meant are dropped before any pattern is tried
        alike: list[str] = []
        with contextlib.suppress(OSError), os.scandir(self.path) as there:
            alike = [one.name for one in there if name in one.name and one.name.removeprefix(".")[:1].isdigit()]
        numbered = re.compile(rf"\.?(\d\d-{re.escape(name)})(\.partial|\.old|\.scratch|\.failed)?")
        matches = (numbered.fullmatch(found) for found in alike)
        return min((match[1] for match in matches if match is not None), default=name)

    def inspect(self, stage: Stage) -> StageState:
        """The state of a stage, every artifact's hash checked. Changes nothing."""
        # After a kill between the two renames of `put`, the new result is whole in `.partial`, or only the old is left.
        places = (self.folder(stage), self.partial(stage), self._old(stage))
        there = [place for place in places if os.path.lexists(place)]
        folder = next((place for place in there if place is places[0] or _whole(place)), None)
        if folder is None:
            return Absent(self._failure(stage))
        if is_link(folder) or not folder.is_dir():
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
        if not os.path.lexists(final):
            if _whole(partial):
                move(partial, final)
            elif _whole(old):
                move(old, final)
        for leftover in (partial, old):
            remove(leftover)
        # a kill right after it came to its place; scratch of an attempt at another result is still of use
        whole = _whole(final)
        if whole is not None and self._scratch_key(stage) in (None, whole.key):
            remove(self.scratch(stage))

    def begin(self, stage: Stage, key: str) -> Path:
        """An empty `.partial` folder; the scratch of another key is dropped."""
        partial, scratch = self.partial(stage), self.scratch(stage)
        remove(partial)
        make_folder(partial)
        if is_link(scratch) or self._scratch_key(stage) != key:
            remove(scratch)
            make_folder(scratch)
            write_durably(scratch / SCRATCH_KEY, key.encode())
        return partial

    def put(self, stage: Stage, manifest: Manifest) -> None:
        """Bring the partial folder to its place; the manifest is the last thing written to it."""
        final, partial, old = self.folder(stage), self.partial(stage), self._old(stage)
        for artifact in manifest.artifacts:
            files.sync_file(partial / artifact.path)
        manifest.write(partial)
        if os.path.lexists(final):
            remove(old)
            move(final, old)
        move(partial, final)
        sync_folder(self.path)
        for leftover in (old, self.failed(stage), self.scratch(stage)):
            remove(leftover)

    def set_aside(self, stage: Stage, error: Mapping[str, Any]) -> Path:
        """Keep what a failed stage wrote, with the error in it."""
        partial, failed = self.partial(stage), self.failed(stage)
        remove(failed)
        make_folder(partial)
        write_durably(partial / "error.json", write_json(error))
        move(partial, failed)
        return failed

    def _scratch_key(self, stage: Stage) -> str | None:
        """The key of the attempt that left its scratch; None without one, or if it was killed before it was written."""
        key = self.scratch(stage) / SCRATCH_KEY
        try:
            return files.read_bytes(key, 200, within=self.path).decode("ascii") or None
        except (OSError, ValueError):
            return None

    def _failure(self, stage: Stage) -> str | None:
        """The error of the last attempt, if one failed; what can't be read is no failure."""
        record = self.failed(stage) / "error.json"
        try:
            return Fields(parse_json(files.read_bytes(record, LARGEST_ERROR, within=self.path))).text("error")[:1000]
        except (OSError, BadRecord):
            return None


def _whole(folder: Path) -> Manifest | None:
    """The manifest of a stage's result, if all of it is there as recorded."""
    if is_link(folder) or not folder.is_dir():
        return None
    try:
        manifest = read_manifest(folder)
    except UntrustedManifest:
        return None
    return manifest if damage(folder, manifest) is None else None


def _names(parent: Path, name: str) -> Iterator[Path]:
    yield parent / name
    count = 1
    while True:
        count += 1
        yield parent / f"{name}-{count}"


def _remove_old_attempts(parent: Path) -> None:
    """Remove what kills left of runs that were being made, a day later. None of it was ever a run."""
    old: list[Path] = []
    with contextlib.suppress(OSError):
        old = entries(parent, ".*-????????-??????-????????.partial")
    for entry in old:
        with contextlib.suppress(OSError):
            if time.time() - entry.lstat().st_mtime > _STALE:
                remove(entry)


def given_sha256(given: Given) -> str:
    """The hash that a given input has in the run folder."""
    if isinstance(given, Joined):
        given = given.path
    return file_sha256(given) if isinstance(given, Path) else hashlib.sha256(given.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def find_runs(parent: Path) -> list[RunFolder]:
    """Every run folder in a folder, the newest first; none that a link leads away from it."""
    found = [path for path in entries(parent) if os.path.lexists(path / RUN)]
    found = [path for path in found if not path.name.startswith(".") and not is_link(path)]
    return [RunFolder(path) for path in sorted(found, key=lambda path: (created(path), path.name), reverse=True)]
