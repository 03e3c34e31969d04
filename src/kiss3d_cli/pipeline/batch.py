"""Carrying out plans: one run, or many that go through the stages together.

A method is opened once for all runs that ask for it with the same settings and models; one run is a batch of one. A run
that fails leaves the others going.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, from_exception
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.memory import large_blocks_mapped
from kiss3d_cli.methods.base import Context, Machine, Method, Opened, Settings, Weightless
from kiss3d_cli.pipeline.plan import Action, Step
from kiss3d_cli.pipeline.runner import RunAtWork, StageOutcome, Task
from kiss3d_cli.pipeline.stages import Stage

Order = Literal["auto", "stage", "run"]
"""Stage by stage for all runs, or run by run; `auto` goes stage by stage from two runs on."""


def execute(task: Task, stages: Sequence[Stage]) -> list[StageOutcome]:
    """Carry out one run.

    Raises:
        Kiss3dError: the first stage that failed; its partial work is set aside, all before it is kept.
    """
    execute_all([task], stages)
    if task.error is not None:
        raise task.error
    return task.outcomes


def execute_all(tasks: Sequence[Task], stages: Sequence[Stage], order: Order = "auto") -> None:
    """Carry out many runs; what came of each stands in its task.

    Raises:
        Interrupted: the user or the system stopped all of it.
    """
    together = order == "stage" or (order == "auto" and len(tasks) > 1)
    for batch in [list(tasks)] if together else [[task] for task in tasks]:
        _Batch(batch, stages).carry_out()


class _Batch:
    """Runs that go through the stages together."""

    def __init__(self, tasks: Sequence[Task], stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._kept: dict[tuple[str, Path], Any] = {}
        self._works = []
        for task in tasks:
            try:
                self._works.append(RunAtWork(task, stages))
            except (Kiss3dError, OSError) as error:
                known = from_exception(error)
                if known is None:
                    raise
                task.error = known
                task.ended(task)

    def carry_out(self) -> None:
        for index in range(len(self._stages)):
            groups: dict[str, list[tuple[RunAtWork, Step]]] = {}
            for work in self._works:
                step = work.next_step(index)
                if step.action is Action.RUN:
                    groups.setdefault(_kind(work.task, step), []).append((work, step))
                else:
                    work.pass_over(step)
            for group in groups.values():
                self._run_group(group)
            self._works = [work for work in self._works if work.task.error is None]
            self._forget(index)
        for work in self._works:
            work.end()

    def _forget(self, index: int) -> None:
        """Whatever was read for a stage that has ended and is not asked for by any that is still to run."""
        if self._kept:
            needed = {name for work in self._works for name in work.models_after(index)}
            for key in [key for key in self._kept if key[0] not in needed]:
                del self._kept[key]

    def _run_group(self, group: Sequence[tuple[RunAtWork, Step]]) -> None:
        with _Opening(group[0][0].task, group[0][1], len(group), self._kept) as opening:
            for work, step in group:
                try:
                    work.run(step, opening)
                except (Kiss3dError, OSError, MemoryError) as error:
                    known = from_exception(error)
                    if known is None:
                        raise
                    # whatever a method holds may be half done now; a fault of the input is none of its own
                    if not isinstance(known, BadInput):
                        opening.close(failed=True)
                    work.fail(known)
                    if isinstance(known, Interrupted) and not work.is_cancelled:
                        raise known from None


class _Opening:
    """A method that is opened when it is first called, and again after a failure."""

    def __init__(self, task: Task, step: Step, calls: int, kept: dict[tuple[str, Path], Any]) -> None:
        self._task, self._step, self._calls, self._kept = task, step, calls, kept
        self._stack = ExitStack()
        self._work: Opened | None = None
        self._used = False

    def __call__(self, context: Context) -> None:
        if self._work is None:
            self._used = True
            task, method = self._task, self._step.stage.methods[self._step.method]
            settings = task.record.config.of(method)
            machine = Machine(
                devices.with_free_memory(task.device, task.record.config["device.memory_limit"]),
                {name: task.models[name].path for name in method.models(settings)},
                self._calls,
                self._kept,
            )
            if self._calls > 1 and not isinstance(method, Weightless):  # a network's blocks are few and large
                self._stack.enter_context(large_blocks_mapped())
            self._work = self._stack.enter_context(opened(method, settings, machine))
        self._calls -= 1
        self._work(context)

    def close(self, *, failed: bool = False) -> None:
        """Let go of what was loaded. What a failure left may hold itself in a circle, and so may networks."""
        if self._used:
            self._used, self._work = False, None
            if failed:
                self._kept.clear()
            self._stack.close()
            method = self._step.stage.methods[self._step.method]
            devices.release(self._task.device, collect=failed or not isinstance(method, Weightless))

    def __enter__(self) -> _Opening:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def opened(method: Method[Any], settings: Settings, machine: Machine) -> AbstractContextManager[Opened]:
    return method.open(settings, machine)


def _kind(task: Task, step: Step) -> str:
    """Equal for runs that one opened method can serve."""
    method = step.stage.methods[step.method]
    used = method.models(task.record.config.of(method))
    return json_sha256(
        {
            "method": step.method,
            "settings": task.record.config.recorded(method),
            "models": {name: [str(task.models[name].path), task.models[name].identity] for name in used},
            "device": [task.device.name, task.record.config["device.memory_limit"]],
        }
    )
