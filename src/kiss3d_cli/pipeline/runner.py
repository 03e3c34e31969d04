"""One run on its way through the stages: each timed, recorded and put to its place as a whole."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import Kiss3dError, from_exception
from kiss3d_cli.core.folders import all_below
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.manifest import MANIFEST, Artifact, Manifest
from kiss3d_cli.core.memory import PeakMemory, give_back
from kiss3d_cli.core.progress import Progress, Reporter, Silent
from kiss3d_cli.methods.base import Context, Opened
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.pipeline.plan import Action, Step, inspect_all, plan_run
from kiss3d_cli.pipeline.run_folder import Complete, RunFolder, RunRecord
from kiss3d_cli.pipeline.stages import Stage


class StageFailure(Kiss3dError):
    """An unexpected error, which is a bug in kiss3d; its traceback is kept beside the partial work."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class StageOutcome:
    """What came of one stage: `status` is done, skipped, off or later; seconds are this process's."""

    stage: str
    method: str
    status: str
    reason: str
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass
class Task:
    """One run to be carried out; whoever makes it holds the folder's lock until it has ended.

    Attributes:
        models: those that are there, by registry name.
        until: the last stage to run.
        force_from: the first stage to run again even if it is done.
        cancelled: set from outside to stop this run at its next safe point.
        ended: told when the run has come to its end, whatever that was.
        outcomes: of the stages so far.
        error: why it failed; None if it did not.
    """

    folder: RunFolder
    record: RunRecord
    models: Mapping[str, Located]
    device: devices.DeviceInfo
    until: str | None = None
    force_from: str | None = None
    reporter: Reporter = dataclasses.field(default_factory=Silent)
    cancelled: threading.Event | None = None
    ended: Callable[[Task], None] = lambda _task: None
    outcomes: list[StageOutcome] = dataclasses.field(default_factory=list)
    error: Kiss3dError | None = None


class RunAtWork:
    """One run on its way through the stages."""

    def __init__(self, task: Task, stages: Sequence[Stage]) -> None:
        self.task, self._stages = task, stages
        for stage in stages:
            task.folder.settle(stage)
        self._states = inspect_all(task.folder, stages)
        self._first = self._plan(task.force_from)
        steps = [{"stage": s.stage.name, "action": s.action.value, "reason": s.reason} for s in self._first]
        task.folder.log("plan", steps=steps)

    def _plan(self, force_from: str | None = None) -> list[Step]:
        task = self.task
        return plan_run(task.record, self._stages, self._states, task.models, until=task.until, force_from=force_from)

    def next_step(self, index: int) -> Step:
        """Planned anew before every stage: what ran before decides whether this one's inputs came out different."""
        step, first = self._plan()[index], self._first[index]
        if self.task.force_from is not None and first.action is Action.RUN and step.action is Action.SKIP:
            return dataclasses.replace(step, action=Action.RUN, reason=first.reason)
        return step

    def models_after(self, index: int) -> set[str]:
        """Registry names of what the stages after this one will still load."""
        steps = [step for step in self._plan()[index + 1 :] if step.action is Action.RUN]
        ways = [step.stage.methods[step.method] for step in steps]
        return {name for method in ways for name in method.models(self.task.record.config.of(method))}

    def pass_over(self, step: Step) -> None:
        task, name = self.task, step.stage.name
        status = {Action.SKIP: "skipped", Action.OFF: "off", Action.LATER: "later"}[step.action]
        task.folder.log("stage", stage=name, status=status, reason=step.reason)
        task.reporter.stage_ended(name, status, 0.0)
        task.outcomes.append(StageOutcome(name, step.method, status, step.reason, 0.0))

    @property
    def is_cancelled(self) -> bool:
        """Whether this run alone is to stop."""
        return self.task.cancelled is not None and self.task.cancelled.is_set()

    def fail(self, error: Kiss3dError) -> None:
        self.task.error = error
        self.task.ended(self.task)

    def end(self) -> None:
        seconds = sum(outcome.seconds for outcome in self.task.outcomes)
        self.task.folder.log("finished", seconds=round(seconds, 3))
        self.task.ended(self.task)

    def run(self, step: Step, call: Opened) -> None:
        """One stage, by an opened method. Raises Kiss3dError if it fails; its partial work is set aside."""
        folder, record, reporter = self.task.folder, self.task.record, self.task.reporter
        stage, method = step.stage, step.stage.methods[step.method]
        assert step.key is not None, "a stage runs only when everything it reads is there"
        folder.log("stage", stage=stage.name, status="started", method=step.method, reason=step.reason)
        reporter.stage_started(stage.name, step.method)
        started, clock = _now(), time.perf_counter()
        devices.reset_peak_memory(self.task.device)
        give_back()
        context = Context(
            inputs={reference: input_path(folder, record, reference) for reference in step.inputs},
            output=folder.begin(stage, step.key),
            progress=Progress(stage.name, reporter, self.task.cancelled),
            scratch=folder.scratch(stage),
        )
        try:
            with PeakMemory() as memory:
                context.progress(0.0)
                call(context)
            artifacts = _artifacts(context.output, method.all_writes(context.inputs))
            json.dumps(context.facts, allow_nan=False)
            seconds = time.perf_counter() - clock
            manifest = Manifest(
                stage=stage.name,
                method=step.method,
                key=step.key,
                inputs=dict(step.inputs),
                settings=record.config.recorded(method),
                models={name: self.task.models[name].identity for name in method.models(record.config.of(method))},
                version=method.version,
                started=started,
                finished=_now(),
                seconds=round(seconds, 3),
                peak_rss_bytes=memory.bytes,
                peak_vram_bytes=devices.peak_memory(self.task.device),
                artifacts=artifacts,
                warnings=tuple(context.warnings),
                facts=context.facts,
            )
            folder.put(stage, manifest)
        except BaseException as error:
            known = _failed(folder, stage, error, reporter, time.perf_counter() - clock)
            _let_go(error)
            raise known from error
        self._states[stage.name] = Complete(manifest)
        folder.log(
            "stage",
            stage=stage.name,
            status="done",
            seconds=manifest.seconds,
            peak_rss_bytes=manifest.peak_rss_bytes,
            peak_vram_bytes=manifest.peak_vram_bytes,
            warnings=list(manifest.warnings),
        )
        reporter.stage_ended(stage.name, "done", seconds)
        for warning in context.warnings:
            reporter.message(f"{stage.name}: {warning}")
        self.task.outcomes.append(
            StageOutcome(stage.name, step.method, "done", step.reason, manifest.seconds, manifest.warnings)
        )


def _failed(folder: RunFolder, stage: Stage, error: BaseException, reporter: Reporter, seconds: float) -> Kiss3dError:
    """Record a failure, whatever it is; recording itself may fail on a full disk, which must not hide the cause."""
    known = from_exception(error, place=f"stage {stage.name}")
    if known is None:
        known = StageFailure(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            place=f"stage {stage.name}",
            hint=f"a fault in kiss3d: please report it with {folder.failed(stage) / 'error.json'}",
        )
    elif known.place is None:
        known.place = f"stage {stage.name}"
    status = "interrupted" if known.exit_code == 130 else "failed"
    details = {
        "error": str(known),
        "hint": known.hint,
        "exit_code": known.exit_code,
        "traceback": "".join(traceback.format_exception(error)),
    }
    try:
        folder.set_aside(stage, details)
        folder.log("stage", stage=stage.name, status=status, error=str(known), hint=known.hint)
    except OSError as second:
        reporter.message(f"the failure could not be recorded: {second}")
    reporter.stage_ended(stage.name, status, seconds)
    return known


def _let_go(error: BaseException) -> None:
    """Forget the calls that failed: who keeps the error would keep their networks on the device.

    Their variables are not enough, as a call also holds its function and what that closes over. The traceback's text
    is in `error.json`.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__


def input_path(folder: RunFolder, record: RunRecord, reference: str) -> Path:
    """The file behind `stage/path` or behind the name of an input."""
    name, _, path = reference.partition("/")
    if not path:
        return folder.path / record.inputs[name].path
    return folder.folder(name) / path


def _artifacts(output: Path, promised: Sequence[str]) -> tuple[Artifact, ...]:
    found = [path for path in all_below(output) if path.is_file() and path.name != MANIFEST]
    names = {path.relative_to(output).as_posix() for path in found}
    absent = [name for name in promised if name not in names]
    assert not absent, f"the stage did not write {', '.join(absent)}"
    return tuple(
        Artifact(path.relative_to(output).as_posix(), path.stat().st_size, file_sha256(path)) for path in found
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
