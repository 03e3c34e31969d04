"""From a request to a run: everything that can be checked is checked before any work starts.

The command line and any other front end go through here.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import kiss3d_cli
from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.packages import library_versions, require_packages
from kiss3d_cli.core.progress import Reporter, Silent
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.models.store.preflight import Fault
from kiss3d_cli.models.store.registry import Model
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline import requirements
from kiss3d_cli.pipeline.batch import execute
from kiss3d_cli.pipeline.config import Config, Layer
from kiss3d_cli.pipeline.inputs import Given, Joined, check_inputs
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.plan import Step, check_stage, chosen_methods, inspect_all, make_plan, plan_run
from kiss3d_cli.pipeline.run_folder import Absent, RunFolder, RunRecord, StageState, given_sha256, run_name
from kiss3d_cli.pipeline.runner import StageOutcome, Task
from kiss3d_cli.pipeline.stages import stages

GIB = 2**30
AUTO_MEMORY = 10 * GIB
"""Video memory from which `auto` takes the 12gb preset: what a 12 GB card has left under a desktop."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        inputs: what the user gave, by the name of its kind.
        preset: `auto` or a preset's name.
        caption: a caption to use instead of one made from the picture.
        strength: how much Flux changes what it starts from, from 0 to 1.
        settings: `key=value` assignments; they win over `config_file`, which wins over the preset.
        base_settings: the same, between the preset and `config_file`: what the kind of input suggests.
        out: the folder of runs.
        name: the run's name; None takes the picture's.
        command: the command line, for the record.
    """

    inputs: Mapping[str, Given] = dataclasses.field(default_factory=dict)
    preset: str = "auto"
    config_file: Path | None = None
    settings: tuple[str, ...] = ()
    base_settings: tuple[str, ...] = ()
    caption: str | None = None
    seed: int | None = None
    strength: float | None = None
    out: Path = Path("outputs")
    name: str | None = None
    until: str | None = None
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A checked request: everything but the weights is known to be there.

    Attributes:
        plan: what will be done.
        missing: models that are needed and not there; the run can't start with any.
        unusable: files of models that are needed and can't be used, missing ones of a model that is there in part
            among them; likewise.
    """

    request: Request
    record: RunRecord
    device: devices.DeviceInfo
    models: Mapping[str, Located]
    plan: list[Step]
    missing: list[Model]
    unusable: list[Fault]


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
    preset, reason, config = _configure(request, [Layer(*found) for found in check_inputs(request.inputs)])
    device = devices.resolve(config["device.name"], config["device.memory_limit"])
    names = needed_models(config)
    models = store.find_all(names, requirements.weights_root(config), requirements.comfyui_folder(config))
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
    return Prepared(request, record, device, models, plan, missing, requirements.unusable_files(plan, config))


def start(prepared: Prepared, reporter: Reporter | None = None, cancelled: threading.Event | None = None) -> Finished:
    """Make the run folder and run. Raises what `prepare` and `runner.execute` raise."""
    folder = open_run(prepared)
    return work(folder, prepared.models, prepared.request.until, reporter, cancelled)


def require_machine(prepared: Prepared) -> None:
    """Raises Missing if packages or a GPU are not there, which no download of weights would make good."""
    requirements.require_packages_of(prepared.plan)
    requirements.require_gpu(prepared.plan, prepared.record.config, prepared.device, prepared.models)


def open_run(prepared: Prepared) -> RunFolder:
    """Make the run folder of a checked request. Raises Missing if packages, a GPU or weights are not there.

    Weights that are there and can't be used, every file of them, are as good as not there.
    """
    require_machine(prepared)
    requirements.require_files(prepared.missing, prepared.unusable, prepared.record.config)
    folder = RunFolder.create(prepared.request.out, prepared.record, prepared.request.inputs)
    folder.log("created", command=prepared.request.command, preset=prepared.record.preset)
    return folder


def work(
    folder: RunFolder,
    models: Mapping[str, Located],
    until: str | None = None,
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    *,
    force_from: str | None = None,
) -> Finished:
    """Run what a run folder is missing, under its lock, on its device as it is now: the run may have waited."""
    with begun(folder, models, until, reporter, cancelled, force_from=force_from) as task:
        return Finished(folder, task.record, execute(task, stages()))


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
    """The task of a new run, under its folder's lock."""
    with locked(folder.path):
        record = folder.record()
        device = devices.resolve(record.config["device.name"], record.config["device.memory_limit"])
        yield Task(folder, record, models, device, until, force_from, reporter or Silent(), cancelled)


def resume(
    path: Path,
    settings: Sequence[str] = (),
    force_from: str | None = None,
    until: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    announce: Callable[[list[Step]], None] = lambda _plan: None,
) -> Finished:
    """Run what is missing, stale or damaged in a run folder. For its arguments and errors see `taken_up`.

    Args:
        announce: called with the plan before the work starts.
    """
    with taken_up(path, settings, force_from, until, command, reporter, cancelled, announce) as task:
        return Finished(task.folder, task.record, execute(task, stages()))


@contextmanager
def taken_up(
    path: Path,
    settings: Sequence[str] = (),
    force_from: str | None = None,
    until: str | None = None,
    command: str = "",
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    announce: Callable[[list[Step]], None] = lambda _plan: None,
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
        record = folder.record()
        folder.check_inputs(record)
        if settings:
            layers = (Layer("run.json", configuration.to_dict(record.config)), configuration.settings_layer(settings))
            record = dataclasses.replace(record, config=configuration.load(*layers))
        plan, models, absent = plan_resume(folder, record, force_from, until)
        requirements.require_packages_of(plan)
        device = devices.resolve(record.config["device.name"], record.config["device.memory_limit"])
        requirements.require_gpu(plan, record.config, device, models)
        requirements.require_files(absent, requirements.unusable_files(plan, record.config), record.config)
        if command:
            record = dataclasses.replace(record, commands=(*record.commands, command))
        folder.rewrite(record)
        folder.log("resumed", command=command)
        announce(plan)
        yield Task(folder, record, models, device, until, force_from, reporter or Silent(), cancelled)


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
    models = store.find_all(needed_models(record.config), root, comfyui)
    plan = plan_run(record, stages(), states, models, until=until, force_from=force_from)
    return plan, models, requirements.missing_models(plan, record.config, models)


def needed_models(config: Config) -> list[str]:
    """Registry names of every model that the chosen methods load."""
    methods = chosen_methods(stages(), config)
    return list(dict.fromkeys(name for method in methods for name in method.models(config.of(method))))


def choose_preset(device_name: str = "auto", root: Path | None = None, comfyui: Path | None = None) -> tuple[str, str]:
    """The preset that `auto` stands for on a device, and why.

    Args:
        root, comfyui: where the weights are looked for, as `models.root` and `models.comfyui`.
    """
    device = devices.resolve(device_name)
    if not device.is_cuda:
        return "draft", device.why.removeprefix("auto: ")
    if (device.memory_bytes or 0) < AUTO_MEMORY:
        return "draft", f"{device.model} has {(device.memory_bytes or 0) / GIB:.1f} GiB, 12gb needs 10 GiB"
    try:
        config = configuration.load(configuration.preset_layer("12gb"))
        names = needed_models(config)
    except BadInput as error:
        return "draft", f"12gb can't run: {error.cause}"
    try:
        methods = chosen_methods(stages(), config)
        require_packages([name for method in methods for name in method.packages], "12gb")
    except Missing as error:
        return "draft", f"12gb can't run: {error.cause}"
    absent = store.missing(names, store.find_all(names, root, comfyui))
    if absent:
        return "draft", f"the weights of 12gb are not here: {', '.join(model.name for model in absent)}"
    return "12gb", f"{device.model} has {(device.memory_bytes or 0) / GIB:.1f} GiB and the weights are here"


def _configure(request: Request, suggested: Sequence[Layer]) -> tuple[str, str, Config]:
    layers = [configuration.settings_layer(request.base_settings), *suggested]
    if request.config_file is not None:
        layers.append(configuration.file_layer(request.config_file))
    layers.append(configuration.settings_layer(request.settings))
    if request.caption is not None:
        layers.append(configuration.Layer("--caption", {"caption": {"text": request.caption}}))
    if request.strength is not None:
        layers.append(configuration.Layer("--strength", {"bundle": {"strength": request.strength}}))
    if request.seed is not None:
        layers.append(configuration.Layer("--seed", {"seed": request.seed}))
    preset, reason = request.preset, "asked for"
    if preset == "auto" and _asked(layers, "bundle", "method") == "text":
        preset, reason = "12gb", "from words there is no way without Flux"
    elif preset == "auto":
        folders = (_asked(layers, "models", name) for name in ("root", "comfyui"))
        root, comfyui = (None if folder is None else Path(folder) for folder in folders)
        preset, reason = choose_preset(_asked(layers, "device", "name") or "auto", root, comfyui)
    return preset, reason, settled(configuration.load(configuration.preset_layer(preset), *layers))


def settled(config: Config) -> Config:
    """The configuration with every method that stands for another replaced by that one, as this machine has it."""
    values = dict(config.values)
    for stage in stages():
        key = f"{stage.name}.method"
        method = stage.methods.get(config[key])
        values[key] = (
            method and method.instead(lambda name: requirements.is_there(stage.methods[name], config))  # noqa: B023 (called at once)
        ) or config[key]
    return Config(values)


def _asked(layers: Sequence[Layer], section: str, name: str) -> str | None:
    """What the last layer that has this setting says; None if none does."""
    found = None
    for layer in layers:
        values = layer.values.get(section)
        if isinstance(values, Mapping) and isinstance(values.get(name), str):
            found = values[name]
    return found


def _name(given: Given) -> str:
    if isinstance(given, Joined):
        return given.path.stem
    return given.stem if isinstance(given, Path) else given
