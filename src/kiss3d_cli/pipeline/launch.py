"""Start and resume of runs: everything that can be checked is checked before any work starts.

The command line and any other front end go through here.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec

import kiss3d_cli
from kiss3d_cli.core import device as devices
from kiss3d_cli.core.packages import library_versions
from kiss3d_cli.core.progress import Reporter, Silent
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.models.store.model import Model
from kiss3d_cli.models.store.preflight import Fault
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline import requirements
from kiss3d_cli.pipeline.batch import execute
from kiss3d_cli.pipeline.choices import Request as Request
from kiss3d_cli.pipeline.choices import configure
from kiss3d_cli.pipeline.config import Layer
from kiss3d_cli.pipeline.estimate import Estimate, estimate_plan, rates_here
from kiss3d_cli.pipeline.inputs import Given, Joined, check_inputs
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.plan import Step, check_stage, inspect_all, make_plan, plan_run
from kiss3d_cli.pipeline.run_folder import Absent, RunFolder, RunRecord, StageState, given_sha256, run_name
from kiss3d_cli.pipeline.runner import StageOutcome, Task
from kiss3d_cli.pipeline.stages import stages


@dataclasses.dataclass(frozen=True)
class Planned:
    """What a run, new or taken up again, would do here.

    Attributes:
        record: with the settings that it would run with.
        plan: what will be done.
        missing: models that are needed and not there; the run can't start with any.
        unusable: files of models that are needed and can't be used, missing ones of a model that is there in part
            among them; likewise.
        states: of the stages on disk, by name; none of a new run.
    """

    record: RunRecord
    device: devices.DeviceInfo
    models: Mapping[str, Located]
    plan: list[Step]
    missing: list[Model]
    unusable: list[Fault]
    states: Mapping[str, StageState] = dataclasses.field(default_factory=dict)

    def estimate(self) -> Estimate:
        """What the plan will take on the device as it is now."""
        here = self.record.device.get("model") == self.device.model
        before = self.states if here else {}
        return estimate_plan(self.plan, self.record.config, self.device, lambda: rates_here(self.device), before)

    def require_machine(self) -> None:
        """Raises Missing if packages or a GPU are not there, which no download of weights would make good."""
        requirements.require_packages_of(self.plan)
        requirements.require_device(self.plan, self.record.config, self.device, self.models)

    def require_all(self) -> None:
        """Raises Missing if packages, a GPU or weights are not there.

        Weights that are there and can't be used, every file of them, are as good as not there.
        """
        self.require_machine()
        requirements.require_files(self.missing, self.unusable, self.record.config)


@dataclasses.dataclass(frozen=True)
class Prepared(Planned):
    """A checked request: everything but the weights is known to be there."""

    request: Request = dataclasses.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that came to its end, or to the stage asked for."""

    folder: RunFolder
    record: RunRecord
    outcomes: list[StageOutcome]

    @property
    def mesh(self) -> Path | None:
        return mesh_of(self.folder)


def mesh_of(folder: RunFolder) -> Path | None:
    """The final mesh of a run, in the frame of the mesh that it started from if any; None if there is none yet."""
    paths = (folder.folder(stage) / "mesh.glb" for stage in ("place", "refine"))
    return next((path for path in paths if path.is_file()), None)


def prepare(request: Request) -> Prepared:
    """Check a request.

    Raises:
        BadInput: a picture, bundle, mesh, preset, stage or setting that can't be used.
        Missing: a device that was asked for and is not there.
    """
    if request.until is not None:
        check_stage(request.until, [stage.name for stage in stages()], "--until")
    if request.preset != "auto":
        configuration.preset_layer(request.preset)
    preset, reason, config = configure(request, [Layer(*found) for found in check_inputs(request.inputs)])
    device = devices.resolve(config["device.name"], config["device.memory_limit"])
    models = store.find_all(
        requirements.needed_models(config), requirements.weights_root(config), requirements.comfyui_folder(config)
    )
    record = RunRecord(
        name=run_name(request.name if request.name is not None else _name(next(iter(request.inputs.values())))),
        preset=preset,
        preset_reason=reason,
        config=config,
        inputs={},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kiss3d=kiss3d_cli.__version__,
        device=dataclasses.asdict(device),
        libraries=library_versions(),
        commands=(request.command,),
    )
    plan = make_plan(
        stages(),
        config,
        {name: given_sha256(given) for name, given in request.inputs.items()},
        {stage.name: Absent() for stage in stages()},
        {name: located.identity for name, located in models.items()},
        until=request.until,
    )
    missing = requirements.missing_models(plan, config, models)
    unusable = requirements.unusable_files(plan, config)
    return Prepared(record, device, models, plan, missing, unusable, request=request)


def check_settings(request: Request) -> None:
    """Raises BadInput if the request's preset, stage or settings can't be used, whatever the inputs."""
    if request.until is not None:
        check_stage(request.until, [stage.name for stage in stages()], "--until")
    configure(request, [])


def start(prepared: Prepared, reporter: Reporter | None = None, cancelled: threading.Event | None = None) -> Finished:
    """Make the run folder and run. Raises what `prepare` and `runner.execute` raise."""
    folder = open_run(prepared)
    return work(folder, prepared.models, prepared.request.until, reporter, cancelled)


def open_run(prepared: Prepared) -> RunFolder:
    """Make the run folder of a checked request. Raises Missing if packages, a GPU or weights are not there."""
    prepared.require_all()
    folder = RunFolder.create(prepared.request.out, prepared.record, prepared.request.inputs)
    folder.log("created", command=prepared.request.command, preset=prepared.record.preset)
    return folder


@contextmanager
def begun(
    folder: RunFolder,
    models: Mapping[str, Located],
    until: str | None = None,
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    *,
    force_from: str | None = None,
) -> Iterator[Task]:
    """The task of a run folder that was just made, under its lock, on its device as it is now: it may have waited."""
    with locked(folder.path):
        record = folder.record()
        device = devices.resolve(record.config["device.name"], record.config["device.memory_limit"])
        devices.import_meanwhile()
        yield Task(folder, record, models, device, until, force_from, reporter or Silent(), cancelled)


@contextmanager
def taken_up(
    path: Path,
    settings: Sequence[str] = (),
    force_from: str | None = None,
    until: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    announce: Callable[[Planned], None] = lambda _planned: None,
) -> Iterator[Task]:
    """The task of a run that is there, under its folder's lock.

    Args:
        path: the run folder.
        settings: `key=value` assignments, kept in run.json.
        force_from: the first stage to run again even if it is done.
        until: the last stage to run.
        announce: called with the plan.

    Raises:
        BadInput, DamagedRun, Missing, RunInUse.
    """
    folder = RunFolder(path)
    folder.record()
    with locked(path):
        planned = look(folder, settings, force_from, until)
        planned.require_all()
        record = planned.record
        if command:
            record = dataclasses.replace(record, commands=(*record.commands, command))
        folder.rewrite(record)
        folder.log("resumed", command=command)
        announce(planned)
        models, device = planned.models, planned.device
        yield Task(folder, record, models, device, until, force_from, reporter or Silent(), cancelled)


P = ParamSpec("P")


def _carried_out(begin: Callable[P, AbstractContextManager[Task]]) -> Callable[P, Finished]:
    """What begins a task, carries it out under its folder's lock, and tells what came of it."""

    def carry_out(*arguments: P.args, **named: P.kwargs) -> Finished:
        with begin(*arguments, **named) as task:
            return Finished(task.folder, task.record, execute(task, stages()))

    return carry_out


work = _carried_out(begun)
"""Run what a new run folder is missing. For its arguments see `begun`; raises what `runner.execute` raises."""
resume = _carried_out(taken_up)
"""Run what is missing, stale or damaged in a run folder. For its arguments and errors see `taken_up`."""


def look(
    folder: RunFolder, settings: Sequence[str] = (), force_from: str | None = None, until: str | None = None
) -> Planned:
    """What `resume` would do, without doing it; for its arguments see `taken_up`.

    Raises:
        BadInput, DamagedRun.
        Missing: a device that was asked for and is not there.
    """
    record = folder.record()
    folder.check_inputs(record)
    if settings:
        layers = (Layer("run.json", configuration.to_dict(record.config)), configuration.settings_layer(settings))
        record = dataclasses.replace(record, config=configuration.load(*layers))
    states = inspect_all(folder, stages())
    plan, models, missing = plan_resume(folder, record, force_from, until, states)
    device = devices.resolve(record.config["device.name"], record.config["device.memory_limit"])
    unusable = requirements.unusable_files(plan, record.config)
    return Planned(record, device, models, plan, missing, unusable, states)


def plan_resume(
    folder: RunFolder,
    record: RunRecord,
    force_from: str | None = None,
    until: str | None = None,
    states: Mapping[str, StageState] | None = None,
) -> tuple[list[Step], dict[str, Located], list[Model]]:
    """The plan of a run folder as it is, the models that are there, and those that are needed and missing.

    Args:
        states: of its stages, where they are known; looking hashes every artifact.
    """
    states = inspect_all(folder, stages()) if states is None else states
    root, comfyui = requirements.weights_root(record.config), requirements.comfyui_folder(record.config)
    models = store.find_all(requirements.needed_models(record.config), root, comfyui)
    plan = plan_run(record, stages(), states, models, until=until, force_from=force_from)
    return plan, models, requirements.missing_models(plan, record.config, models)


def _name(given: Given) -> str:
    if isinstance(given, Joined):
        return given.path.stem
    return given.stem if isinstance(given, Path) else given
