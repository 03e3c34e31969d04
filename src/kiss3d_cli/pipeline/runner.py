"""Carrying out a plan: stage after stage, each timed, recorded and put to its place as a whole."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import Kiss3dError, from_exception
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.manifest import MANIFEST, Artifact, Manifest
from kiss3d_cli.core.memory import PeakMemory
from kiss3d_cli.core.progress import Progress, Reporter, Silent
from kiss3d_cli.methods.base import Context, Machine, Method, Opened, Settings
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.pipeline.plan import Action, Step, make_plan
from kiss3d_cli.pipeline.run_folder import Complete, RunFolder, RunRecord, StageState
from kiss3d_cli.pipeline.stages import Stage


class StageFailure(Kiss3dError):
    """An error that no one foresaw: a fault of kiss3d, with its traceback kept beside the partial work."""

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


def inspect_all(folder: RunFolder, stages: Sequence[Stage]) -> dict[str, StageState]:
    return {stage.name: folder.inspect(stage) for stage in stages}


def plan_run(
    record: RunRecord,
    stages: Sequence[Stage],
    states: Mapping[str, StageState],
    models: Mapping[str, Located],
    *,
    until: str | None = None,
    force_from: str | None = None,
) -> list[Step]:
    """The plan for a run whose stages are in these states."""
    return make_plan(
        stages,
        record.config,
        {name: entry.sha256 for name, entry in record.inputs.items()},
        states,
        {name: located.identity for name, located in models.items()},
        until=until,
        force_from=force_from,
    )


def execute(
    folder: RunFolder,
    record: RunRecord,
    stages: Sequence[Stage],
    models: Mapping[str, Located],
    device: devices.DeviceInfo,
    *,
    until: str | None = None,
    force_from: str | None = None,
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
) -> list[StageOutcome]:
    """Run what the plan says. The caller holds the folder's lock.

    Raises:
        Kiss3dError: the first stage that failed; its partial work is set aside, all before it is kept.
    """
    reporter = reporter if reporter is not None else Silent()
    for stage in stages:
        folder.settle(stage)
    states = inspect_all(folder, stages)
    first = plan_run(record, stages, states, models, until=until, force_from=force_from)
    folder.log("plan", steps=[{"stage": s.stage.name, "action": s.action.value, "reason": s.reason} for s in first])
    outcomes = []
    for index, stage in enumerate(stages):
        # Planned anew before every stage: what ran before decides whether this one's inputs came out different.
        step = plan_run(record, stages, states, models, until=until)[index]
        if force_from is not None and first[index].action is Action.RUN and step.action is Action.SKIP:
            step = dataclasses.replace(step, action=Action.RUN, reason=first[index].reason)
        if step.action is Action.RUN:
            manifest = _run_stage(folder, record, step, models, device, reporter, cancelled)
            states[stage.name] = Complete(manifest)
            outcomes.append(
                StageOutcome(stage.name, step.method, "done", step.reason, manifest.seconds, manifest.warnings)
            )
            continue
        status = {Action.SKIP: "skipped", Action.OFF: "off", Action.LATER: "later"}[step.action]
        folder.log("stage", stage=stage.name, status=status, reason=step.reason)
        reporter.stage_ended(stage.name, status, 0.0)
        outcomes.append(StageOutcome(stage.name, step.method, status, step.reason, 0.0))
    return outcomes


def _run_stage(
    folder: RunFolder,
    record: RunRecord,
    step: Step,
    models: Mapping[str, Located],
    device: devices.DeviceInfo,
    reporter: Reporter,
    cancelled: threading.Event | None,
) -> Manifest:
    stage, method = step.stage, step.stage.methods[step.method]
    assert step.key is not None, "a stage runs only when everything it reads is there"
    settings = record.config.of(method)
    used = {name: models[name] for name in method.models(settings)}
    folder.log("stage", stage=stage.name, status="started", method=step.method, reason=step.reason)
    reporter.stage_started(stage.name, step.method)
    started, clock = _now(), time.perf_counter()
    devices.reset_peak_memory(device)
    machine = Machine(
        devices.with_free_memory(device, record.config["device.memory_limit"]),
        {name: located.path for name, located in used.items()},
    )
    context = Context(
        inputs={reference: input_path(folder, record, reference) for reference in step.inputs},
        output=folder.begin(stage, step.key),
        progress=Progress(stage.name, reporter, cancelled),
        scratch=folder.scratch(stage),
    )
    try:
        with PeakMemory() as memory:
            context.progress(0.0)
            with opened(method, settings, machine) as work:
                work(context)
        artifacts = _artifacts(context.output, method.writes)
        json.dumps(context.facts, allow_nan=False)
        seconds = time.perf_counter() - clock
        manifest = Manifest(
            stage=stage.name,
            method=step.method,
            key=step.key,
            inputs=dict(step.inputs),
            settings=record.config.recorded(method),
            models={name: located.identity for name, located in used.items()},
            version=method.version,
            started=started,
            finished=_now(),
            seconds=round(seconds, 3),
            peak_rss_bytes=memory.bytes,
            peak_vram_bytes=devices.peak_memory(device),
            artifacts=artifacts,
            warnings=tuple(context.warnings),
            facts=context.facts,
        )
        folder.put(stage, manifest)
    except BaseException as error:
        known = _failed(folder, stage, error, reporter, time.perf_counter() - clock)
        _let_go(error)
        raise known from error
    finally:
        devices.release(device)
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
    return manifest


def opened(method: Method[Any], settings: Settings, machine: Machine) -> AbstractContextManager[Opened]:
    return method.open(settings, machine)


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
    found = sorted(path for path in output.rglob("*") if path.is_file() and path.name != MANIFEST)
    names = {path.relative_to(output).as_posix() for path in found}
    absent = [name for name in promised if name not in names]
    assert not absent, f"the stage did not write {', '.join(absent)}"
    return tuple(
        Artifact(path.relative_to(output).as_posix(), path.stat().st_size, file_sha256(path)) for path in found
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def library_versions() -> dict[str, Any]:
    """Versions of what the results depend on, without importing any of it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in (
        "torch",
        "numpy",
        "scipy",
        "trimesh",
        "pymeshlab",
        "opencv-python-headless",
        "pillow",
        "diffusers",
        "transformers",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
