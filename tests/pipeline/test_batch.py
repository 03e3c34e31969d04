"""Many runs that go through the stages together."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import weakref
from contextlib import ExitStack, contextmanager

import pytest
import toy

from killing import die_at_write
from kiss3d_cli.core.errors import BadInput, Interrupted, OutOfMemory
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.pipeline import batch
from kiss3d_cli.pipeline.batch import execute_all
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.runner import Task


def make(parent, count: int = 3, **settings):
    parent.mkdir(exist_ok=True)
    folders = []
    for number in range(count):
        (parent / str(number)).mkdir()
        folders.append(toy.create(parent / str(number), text=f"panda {number}", **settings))
    return folders


def run_all(folders, order="auto", **options):
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder.path))
        tasks = [Task(folder, folder.record(), {}, toy.CPU, **options) for folder in folders]
        execute_all(tasks, toy.STAGES, order)
    return tasks


@pytest.fixture
def calls(monkeypatch):
    """What happens to the methods, in order: `open`, a call for a picture, `close`."""
    seen = []
    opened = batch.opened

    @contextmanager
    def watched(method, settings, machine):
        seen.append(f"open {method.stage} for {machine.calls}")
        with opened(method, settings, machine) as work:

            def call(context):
                seen.append(f"{method.stage} {context.output.parent.parent.parent.name}")
                work(context)

            yield call
        seen.append(f"close {method.stage}")

    monkeypatch.setattr(batch, "opened", watched)
    return seen


def test_a_method_is_opened_once_for_all_runs(tmp_path, calls):
    tasks = run_all(make(tmp_path / "runs", 2))
    assert all(task.error is None for task in tasks)
    assert calls == [
        line
        for stage in ("preprocess", "caption", "multiview")
        for line in (f"open {stage} for 2", f"{stage} 0", f"{stage} 1", f"close {stage}")
    ]


def test_run_by_run_where_that_is_asked_for(tmp_path, calls):
    run_all(make(tmp_path / "runs", 2), order="run")
    assert [line for line in calls if line.startswith("open")] == 2 * [
        f"open {stage} for 1" for stage in ("preprocess", "caption", "multiview")
    ]


def test_runs_with_other_settings_are_another_group(tmp_path, calls):
    folders = make(tmp_path / "a", 1) + make(tmp_path / "b", 2, seed=7)
    run_all(folders)
    opened = [line for line in calls if line.startswith("open")]
    assert opened == ["open preprocess for 3", "open caption for 1", "open caption for 2", "open multiview for 3"]


def test_together_and_alone_come_to_the_same(tmp_path):
    together, alone = make(tmp_path / "a"), make(tmp_path / "b")
    run_all(together)
    for folder in alone:
        toy.run(folder)
    assert [toy.artifacts(folder) for folder in together] == [toy.artifacts(folder) for folder in alone]


@pytest.mark.parametrize(("error", "reopened"), [(BadInput("poison"), False), (OutOfMemory("full"), True)])
def test_one_that_fails_leaves_nineteen(tmp_path, monkeypatch, calls, error, reopened):
    repeat = toy.repeat

    def failing(context, settings):
        if context.output.parent.parent.parent.name == "7":
            raise error
        repeat(context, settings)

    monkeypatch.setattr(toy, "repeat", failing)
    ended = []
    tasks = run_all(make(tmp_path / "runs", 20), ended=ended.append)
    assert [number for number, task in enumerate(tasks) if task.error is not None] == [7]
    assert sum(toy.statuses(task.outcomes) == ["done"] * 3 for task in tasks) == 19
    assert tasks[7].error.exit_code == error.exit_code
    assert len(ended) == 20
    assert calls.count("open caption for 20") == 1
    assert calls.count("open caption for 12") == reopened, "a network that ran out of memory is loaded anew"
    assert not any(line.startswith("multiview 7") for line in calls)


def test_what_is_read_of_a_model_is_kept_for_the_last_stage_that_needs_it_and_no_longer(tmp_path):
    reads, alive = [], []

    class Weights:
        pass

    def read(machine):
        def fresh():
            weights = Weights()
            reads.append(weakref.ref(weights))
            return weights

        return machine.once("m", fresh)

    class Upper(toy.Upper):
        def models(self, settings):
            return ("m",)

        def work(self, settings, machine, context):
            read(machine)
            super().work(settings, machine, context)

    class Repeat(toy.Repeat):
        models = Upper.models

        def work(self, settings, machine, context):
            read(machine)
            super().work(settings, machine, context)

    class Join(toy.Join):
        def work(self, settings, machine, context):
            alive.extend(reference() for reference in reads)
            super().work(settings, machine, context)

    stages = [
        dataclasses.replace(stage, methods={name: method()})
        for stage, (name, method) in zip(
            toy.STAGES, (("grabcut", Upper), ("florence2", Repeat), ("zero123plus", Join)), strict=True
        )
    ]
    folders = make(tmp_path / "runs", 2)
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder.path))
        models = {"m": Located(tmp_path, "of the test")}
        tasks = [Task(folder, folder.record(), models, toy.CPU) for folder in folders]
        execute_all(tasks, stages)
    assert [task.error for task in tasks] == [None, None]
    assert len(reads) == 1
    assert alive == [None, None]


def test_a_cancelled_run_leaves_the_others_going(tmp_path):
    folders = make(tmp_path / "runs")
    stop = threading.Event()
    stop.set()
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder.path))
        tasks = [Task(folder, folder.record(), {}, toy.CPU) for folder in folders]
        tasks[1].cancelled = stop
        execute_all(tasks, toy.STAGES)
    assert [task.error is None for task in tasks] == [True, False, True]
    assert isinstance(tasks[1].error, Interrupted)


def test_the_user_stops_all_of_them(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    folders = make(tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(toy, "repeat", stop)
        with pytest.raises(Interrupted):
            run_all(folders)
    tasks = run_all(folders)
    assert all(toy.statuses(task.outcomes) == ["skipped", "done", "done"] for task in tasks)


def test_killed_at_every_write_and_resumed_to_the_same(tmp_path):
    expected = [toy.artifacts(task.folder) for task in run_all(make(tmp_path / "undisturbed", 2))]
    for boundary in range(1, 10_000):
        place = tmp_path / f"kill-{boundary}"
        folders = make(place, 2)
        child = os.fork()
        if child == 0:
            try:
                die_at_write(str(place), boundary, [0])
                run_all(folders)
            finally:
                os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        tasks = run_all(folders)
        assert [toy.artifacts(task.folder) for task in tasks] == expected, f"after a kill at write {boundary}"
        shutil.rmtree(place)
    assert boundary > 60
