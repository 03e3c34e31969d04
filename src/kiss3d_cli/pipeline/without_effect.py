"""Settings that were asked for and change nothing, in words: what a run should not pass over in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kiss3d_cli.methods.shared import RUN_SETTINGS
from kiss3d_cli.pipeline.config import Config, settings_layer
from kiss3d_cli.pipeline.described import written
from kiss3d_cli.pipeline.plan import Action, Step


def without_effect(
    assignments: Sequence[str], config: Config, plan: Sequence[Step], before: Config | None = None
) -> Iterator[str]:
    """A sentence for each assignment that leaves the run as it is.

    Args:
        assignments: `key=value`, as they were given.
        config: of the run with them.
        plan: of the same run.
        before: the run's configuration without them, where the run was there before.
    """
    always = {key for owner in RUN_SETTINGS for key in owner.keys("").values()}
    steps = [step for step in plan if step.action is not Action.OFF]
    read = {key for step in steps for key in config.recorded(step.stage.methods[step.method])}
    for key in _keys(assignments):
        if before is not None and before[key] == config[key]:
            yield f"{key} is {written(config[key]) or 'empty'} already"
        elif key not in read and key not in always and not key.endswith(".method"):
            yield f"{key} changes nothing: no stage of this run reads it"


def _keys(assignments: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(key for one in assignments for key in _leaves(settings_layer([one]).values)))


def _leaves(values: object, prefix: str = "") -> Iterator[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix
