"""What a run has to do: a pure function of the configuration and of what is on disk.

The key of a stage is the hash of all that its result depends on: the code version of its method, the settings that the
method declares, the content of the artifacts that it reads and the identities of its models. A stage is done if its
files are as its manifest says and its manifest's key is today's key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container, Mapping, Sequence
from enum import StrEnum
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.manifest import Manifest
from kiss3d_cli.methods.base import Method
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.inputs import why_absent
from kiss3d_cli.pipeline.run_folder import Absent, Complete, Damaged, RunFolder, RunRecord, StageState
from kiss3d_cli.pipeline.stages import Stage

_NOT_GIVEN = re.compile(r"no (\S+) was given")


class Action(StrEnum):
    SKIP = "skip"
    """It is done."""
    RUN = "run"
    """It is missing, stale or damaged."""
    CHECK = "check"
    """A stage before it runs; it runs too if what it reads comes out different."""
    OFF = "off"
    """It has no part in this run."""
    LATER = "later"
    """It comes after the last stage asked for."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What is to be done about one stage, and why.

    Attributes:
        key: the stage's key, where everything that it reads is there already.
        inputs: hash of everything that it reads, by reference, likewise.
    """

    stage: Stage
    method: str
    action: Action
    reason: str
    key: str | None = None
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


def make_plan(
    stages: Sequence[Stage],
    config: Config,
    inputs: Mapping[str, str],
    states: Mapping[str, StageState],
    models: Mapping[str, str],
    *,
    until: str | None = None,
    force_from: str | None = None,
) -> list[Step]:
    """Decide about every stage.

    Args:
        stages: in the order in which they run.
        config: the resolved configuration.
        inputs: hash of every file the user gave, by input name.
        states: what is on disk, by stage name.
        models: identity of every model that is there, by registry name.
        until: the last stage to run.
        force_from: the first stage to run again even if it is done.

    Raises:
        BadInput: an unknown stage, or a route on which a stage reads what no stage makes.
    """
    names = [stage.name for stage in stages]
    last = names.index(check_stage(until, names, "--until")) if until is not None else len(stages)
    first_forced = names.index(check_stage(force_from, names, "--from")) if force_from is not None else len(stages)

    known: dict[str, str | None] = dict(inputs)  # hash by reference; None: made again, the hash is not known yet
    plan: list[Step] = []
    for index, stage in enumerate(stages):
        name, method, off = chosen_method(stage, config, stages)
        absent = [reference for reference in method.reads if reference not in known] if method is not None else []
        if method is not None and method.any_of and not any(reference in known for reference in method.any_of):
            off = _both([_why_absent(reference, plan, known) for reference in method.any_of])
        if absent:
            off = _why_absent(absent[0], plan, known)
        if method is None or off is not None:
            plan.append(Step(stage, name, Action.OFF, str(off)))
            continue
        reads = (*method.reads, *(reference for reference in method.takes if reference in known))
        step = _decide(stage, name, method, config, {r: known[r] for r in reads}, states[stage.name], models)
        if index > last:
            step = dataclasses.replace(step, action=Action.LATER, reason=f"after --until {until}")
        elif index >= first_forced and step.action is not Action.OFF:
            step = dataclasses.replace(step, action=Action.RUN, reason=f"asked for with --from {force_from}")
        plan.append(step)
        state = states[stage.name]
        if step.action is Action.SKIP and isinstance(state, Complete):  # what it made may be less than it makes today
            known.update({f"{stage.name}/{a.path}": a.sha256 for a in state.manifest.artifacts})
        else:
            known.update({f"{stage.name}/{path}": None for path in method.all_writes(known)})
    _check_route(plan)
    return plan


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


def stage_key(stage: Stage, name: str, config: Config, inputs: Mapping[str, str], models: Mapping[str, str]) -> str:
    method = stage.methods[name]
    return json_sha256(
        {
            "stage": stage.name,
            "method": name,
            "version": method.version,
            "settings": config.recorded(method),
            "inputs": dict(inputs),
            "models": {model: models.get(model, "") for model in method.models(config.of(method))},
        }
    )


def check_stage(name: str | None, names: Sequence[str], option: str) -> str:
    if name is None or name not in names:
        raise BadInput(f"there is no stage '{name}'", place=option, hint=f"choose one of: {', '.join(names)}")
    return name


def chosen_method(stage: Stage, config: Config, stages: Sequence[Stage]) -> tuple[str, Method[Any] | None, str | None]:
    """The method's name and the method, or, if the stage is switched off, None and why."""
    name = str(config[f"{stage.name}.method"])
    if stage.unread is not None and not _is_read(stage, config, stages):
        return name, None, stage.unread
    if name == "none":
        return name, None, f"switched off by {stage.name}.method=none"
    method = stage.methods[name]
    idle = method.idle(config.of(method))
    return (name, method, None) if idle is None else (name, None, idle)


def chosen_methods(stages: Sequence[Stage], config: Config) -> list[Method[Any]]:
    """The methods of the stages that a configuration does not switch off."""
    found = (chosen_method(stage, config, stages)[1] for stage in stages)
    return [method for method in found if method is not None]


def _is_read(stage: Stage, config: Config, stages: Sequence[Stage]) -> bool:
    """Whether the chosen method of any stage reads what this one makes."""
    chosen = (other.methods.get(config[f"{other.name}.method"]) for other in stages if other.name != stage.name)
    return any(reference.startswith(f"{stage.name}/") for method in chosen if method for reference in method.reads)


def _decide(
    stage: Stage,
    name: str,
    method: Method[Any],
    config: Config,
    reads: Mapping[str, str | None],
    state: StageState,
    models: Mapping[str, str],
) -> Step:
    inputs = {reference: sha256 for reference, sha256 in reads.items() if sha256 is not None}
    key = stage_key(stage, name, config, inputs, models) if len(inputs) == len(reads) else None
    if isinstance(state, Absent):
        reason = "not made yet" if state.failure is None else f"the last attempt failed: {state.failure}"
        return Step(stage, name, Action.RUN, reason, key, inputs)
    if isinstance(state, Damaged):
        return Step(stage, name, Action.RUN, f"damaged: {state.what}", key, inputs)
    if key == state.manifest.key:
        return Step(stage, name, Action.SKIP, "done", key, inputs)
    reason = _changes(name, method, config, reads, state.manifest, models)
    if key is None and not reason:
        unknown = ", ".join(_stages_of(reference for reference, sha256 in reads.items() if sha256 is None))
        return Step(stage, name, Action.CHECK, f"runs if {unknown} comes out different")
    return Step(stage, name, Action.RUN, reason or "its key is another one", key, inputs)


def _changes(
    name: str,
    method: Method[Any],
    config: Config,
    reads: Mapping[str, str | None],
    manifest: Manifest,
    models: Mapping[str, str],
) -> str:
    """Everything in which today's key differs from the manifest's, in words; empty if nothing does."""
    if name != manifest.method:
        return f"its method changed from {manifest.method} to {name}"
    changes = []
    for key, value in config.recorded(method).items():
        before = manifest.settings.get(key, "unset")
        if before != value:
            changes.append(f"{key} changed from {_shown(before)} to {_shown(value)}")
    changed = [r for r, sha256 in reads.items() if sha256 is not None and manifest.inputs.get(r) != sha256]
    changed += [r for r in manifest.inputs if r not in reads]
    if changed:
        changes.append(f"{', '.join(_stages_of(changed))} changed")
    for model in method.models(config.of(method)):
        if model not in manifest.models:
            changes.append(f"{model} was not used before")
        elif manifest.models[model] != models.get(model, ""):
            changes.append(f"the weights of {model} changed")
    if not changes and manifest.version != method.version:
        changes.append(f"kiss3d's {name} is newer (version {manifest.version} to {method.version})")
    return "; ".join(changes)


def _stages_of(references: Any) -> list[str]:
    return list(dict.fromkeys(reference.partition("/")[0] for reference in references))


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _why_absent(reference: str, plan: Sequence[Step], known: Container[str]) -> str:
    """Why nothing makes what a stage reads, in terms of what the user can give or set."""
    source, _, path = reference.partition("/")
    if not path:
        return why_absent(source)
    before = next((step for step in plan if step.stage.name == source), None)
    if before is not None and before.action is Action.OFF:
        return f"{source} is off: {before.reason}"
    method = before.stage.methods.get(before.method) if before is not None else None
    for taken, paths in method.writes_for.items() if method is not None else ():
        if path in paths:
            return _why_absent(taken, plan, known)
    makers = [] if before is None else [maker for maker in before.stage.methods.values() if path in maker.writes]
    for maker in makers:
        inputs = [name for name in maker.reads if "/" not in name and name not in known]
        if inputs and len(makers) == 1:
            return why_absent(inputs[0])
    if makers:
        return f"only {source}.method={_either([maker.name for maker in makers])} makes {path}"
    return f"{source} does not make {path}"


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _both(reasons: Sequence[str]) -> str:
    """All reasons in one clause; options that were not given are listed once."""
    reasons = list(dict.fromkeys(reasons))
    options = [match[1] for reason in reasons if (match := _NOT_GIVEN.fullmatch(reason))]
    return f"no {_either(options)} was given" if len(options) == len(reasons) else " and ".join(reasons)


def _check_route(plan: Sequence[Step]) -> None:
    """A run that can't end in a mesh is refused before it starts."""
    for step in plan:
        if step.stage.name == "refine" and step.action is Action.OFF:
            raise BadInput(
                f"these settings can't end in a mesh: refine has nothing to read, because {step.reason}",
                place="config",
                hint="switch the stage before it on, or give a PICTURE, or --bundle with bundle.method=file",
            )
