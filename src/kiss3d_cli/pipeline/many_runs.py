"""Many runs in one folder: finished ones are skipped, interrupted ones resumed.

FOLDER/
  ITEM_0-20250101-120000/   run folders
  runs_report.json          every run, written as they end
  runs.md                   the table of all runs
  scores.md .csv .json      their table
  summary.json              the best run of every item, by Chamfer L1
  mesh.glb, metrics.json    of the best run, where all runs are of one item
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Interrupted, Kiss3dError, RunInUse, from_exception
from kiss3d_cli.core.files import copy_own, read_bytes, write_durably
from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.core.progress import Reporter, Silent
from kiss3d_cli.core.records import parse_json, write_json
from kiss3d_cli.evaluation.scores import Score, ScoreTable, make_table
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.batch import Order, execute_all
from kiss3d_cli.pipeline.config import to_dict
from kiss3d_cli.pipeline.jobs import Job, RunReport
from kiss3d_cli.pipeline.launch import Request
from kiss3d_cli.pipeline.lock import locked
from kiss3d_cli.pipeline.measure import columns_of
from kiss3d_cli.pipeline.plan import Action
from kiss3d_cli.pipeline.run_folder import RunFolder, RunRecord, find_runs, given_sha256
from kiss3d_cli.pipeline.runner import Task
from kiss3d_cli.pipeline.stages import stages

SCHEMA_VERSION = 1
_EVERY = 2.0
"""Seconds between two writes of the reports, which are all written each time."""
_RARELY = 50.0
"""The same, over the seconds that the last write took: of ten thousand runs it takes half a second."""
_LARGEST_METRICS = 4 * 2**20
"""Bytes of metrics.json."""
_LONGEST_HINT = 120
"""Letters of a table's cell; runs_report.json has all of it."""
REPORTS = "runs_report.json"
TOGETHER = 100
"""Runs that go through the stages together: each holds its folder's lock, which is an open file."""
DATASET_SETTINGS = ("eval.align=similarity",)
"""A data set's meshes are in units and frames of their own; any other layer of settings wins over this."""


@dataclass(frozen=True)
class ManyFinished:
    """All runs of a folder.

    Attributes:
        folder: where they are.
        reports: in the order of the jobs.
        table: their scores.
        best: the best run of every item, by Chamfer L1.
    """

    folder: Path
    reports: tuple[RunReport, ...]
    table: ScoreTable
    best: dict[str, RunReport]


def run_many(
    jobs: Sequence[Job | RunReport],
    request: Request,
    folder: Path,
    reporter: Callable[[str], Reporter] = lambda _name: Silent(),
    cancelled: threading.Event | None = None,
    announce: Callable[[str], None] = lambda _text: None,
    ended: Callable[[RunFolder], None] = lambda _run: None,
    *,
    once: bool = False,
    order: Order = "auto",
) -> ManyFinished:
    """Run the jobs; a failure is noted and the others go on.

    Args:
        jobs: what to run; a report of a job that could not even be found is passed on as it is.
        request: settings of all runs; inputs, name and place are put in for each.
        folder: made if it is not there.
        reporter: who is told of a run, by the run's name.
        announce: told what is about to happen, and what came of each run.
        ended: told of each run that was worked on, however it ended, and of each that was done before.
        once: inputs of equal content are one run, whatever they are called.
        order: see `batch.Order`.

    Raises:
        BadInput: a setting, preset or stage that can't be used, whatever the picture.
        Interrupted: the user stopped; the reports of what was done are there.
    """
    launch.check_settings(request)
    folder.mkdir(parents=True, exist_ok=True)
    many = ManyRuns(jobs, request, folder, once, announce, ended)
    waiting = [job for job in range(len(jobs)) if many.reports[job] is None]
    try:
        for start in range(0, len(waiting), TOGETHER):
            with ExitStack() as stack:
                tasks = [many.begin(job, stack, reporter, cancelled) for job in waiting[start : start + TOGETHER]]
                execute_all([task for task in tasks if task is not None], stages(), order)
        reports = many.all_reports()
    finally:
        many.write_reports()
    return finish(folder, reports, request)


class ManyRuns:
    """The jobs at work: what is known of each so far."""

    def __init__(
        self,
        jobs: Sequence[Job | RunReport],
        request: Request,
        folder: Path,
        once: bool,
        announce: Callable[[str], None],
        ended: Callable[[RunFolder], None],
    ) -> None:
        self._jobs, self._request, self._folder, self._once = jobs, request, folder, once
        self._announce, self._ended = announce, ended
        self._earlier = self._found(find_runs(folder))
        self._first: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._next_write = -math.inf
        self._twin: dict[int, int] = {}
        self._causes: dict[str, str] = {}
        self.reports: list[RunReport | None] = [None if isinstance(job, Job) else job for job in jobs]
        self._told = sum(report is not None for report in self.reports)
        self._open()

    def _open(self) -> None:
        """Called once, before the first job."""

    def begin(
        self, number: int, stack: ExitStack, reporter: Callable[[str], Reporter], cancelled: threading.Event | None
    ) -> Task | None:
        """The task of a job, its folder locked until the stack is left; None if there is nothing to do, or no way."""
        job = self._jobs[number]
        assert isinstance(job, Job)
        own = replace(self._request, inputs=job.inputs, name=job.name, out=self._folder)
        run: RunFolder | None = None
        try:
            prepared = launch.prepare(own)
            given = {name: given_sha256(value) for name, value in job.inputs.items()}
            key = self._keys[number] = self._key(given, prepared.record)
            if self._once and self._first.setdefault(key, number) != number:
                self._twin[number] = self._first[key]
                return None
            run = self._take(number, key, stack)
            if run is not None and _is_done(run, own.until):
                _settle(run)
                self.pass_over(number, run)
                return None
            if run is None:
                run = launch.open_run(prepared)
                self._made(number, run)
                opened = launch.begun(run, prepared.models, own.until, reporter(job.name), cancelled)
            else:
                opened = launch.taken_up(
                    run.path, until=own.until, command=own.command, reporter=reporter(job.name), cancelled=cancelled
                )
            task = stack.enter_context(opened)
        except (Kiss3dError, OSError, MemoryError) as error:
            known = from_exception(error)
            if known is None or isinstance(known, Interrupted) or (isinstance(known, RunInUse) and run is None):
                raise
            self._went_wrong(number, known)
            self._tell(number, _failed(_blank(job), run, known))
            return None
        task.ended = lambda task: self._end(number, task)
        return task

    def _end(self, number: int, task: Task) -> None:
        base = _blank(self._jobs[number])
        if task.error is None:
            seconds = sum(outcome.seconds for outcome in task.outcomes)
            self._tell(number, _report(base, task.folder, "done", seconds))
            self._went_well(number, task.folder)
        else:
            self._went_wrong(number, task.error)
            self._tell(number, _failed(base, task.folder, task.error))
        self._ended(task.folder)

    def pass_over(self, number: int, run: RunFolder) -> None:
        """Report a run that was done before."""
        self._tell(number, _report(_blank(self._jobs[number]), run, "skipped", 0.0))
        self._ended(run)

    def is_twin(self, number: int) -> bool:
        """Whether a job is the same as another one of them."""
        return number in self._twin

    def _found(self, runs: Sequence[RunFolder]) -> dict[str, RunFolder]:
        """Run folders that are there, the newest first, by the key of the job that they belong to."""
        found = {}
        for run in reversed(runs):  # the newest last, so that it stays
            try:
                record = run.record()
            except Kiss3dError:
                continue
            given = {name: entry.sha256 for name, entry in record.inputs.items()}
            found[self._key(given, record)] = run
        return found

    def _take(self, number: int, key: str, stack: ExitStack) -> RunFolder | None:  # noqa: ARG002
        """The run folder that there is for a job."""
        return self._earlier.get(key)

    def _made(self, number: int, run: RunFolder) -> None:
        """A run folder was made for a job."""

    def _went_well(self, number: int, run: RunFolder) -> None:
        """A run was worked on and has ended well."""

    def _went_wrong(self, number: int, error: Kiss3dError) -> None:
        """A job failed."""

    def _tell(self, number: int, report: RunReport) -> None:
        self._told += self.reports[number] is None
        self.reports[number] = report
        failure = ""
        if report.error is not None:
            first = self._causes.setdefault(report.error, report.name)
            failure = f": {' '.join(report.error.split())}" if first == report.name else f" as {first} did"
        self._announce(f"{self._told} of {len(self._jobs)}: {report.name} {report.status}{failure}")
        if time.monotonic() > self._next_write:
            self.write_reports()

    def write_reports(self) -> None:
        """Write what came of the runs so far."""
        began = time.monotonic()
        told = [entry for entry in self.reports if entry is not None]
        _write(self._folder / REPORTS, {"runs": [asdict(entry) for entry in told]})
        now = time.monotonic()
        self._next_write = now + max(_EVERY, _RARELY * (now - began))

    def all_reports(self) -> tuple[RunReport, ...]:
        """The reports of all jobs, with those of equal pictures."""
        for number, first in self._twin.items():
            report, job = self.reports[first], self._jobs[number]
            assert report is not None
            notes = f"the same as {report.name}"
            status = "failed" if report.status == "failed" else "same"
            self._tell(number, replace(report, name=job.name, item=job.item, status=status, notes=notes, seconds=0.0))
        assert None not in self.reports
        return tuple(report for report in self.reports if report is not None)

    def _key(self, given: Mapping[str, str], record: RunRecord) -> str:
        """Equal for runs of the same files with the same settings and, unless content alone counts, the same name."""
        name = "" if self._once else record.name
        return json_sha256({"given": dict(given), "config": to_dict(record.config), "name": name})


def _blank(job: Job | RunReport) -> RunReport:
    return RunReport(job.name, job.item, job.view, job.notes, "failed")


def _failed(base: RunReport, run: RunFolder | None, error: Kiss3dError) -> RunReport:
    place = None if run is None else str(run.path)
    return replace(base, error=str(error), exit_code=error.exit_code, hint=error.hint, run_dir=place)


def _is_done(run: RunFolder, until: str | None) -> bool:
    plan, _models, _missing = launch.plan_resume(run, run.record(), until=until)
    return all(step.action in (Action.SKIP, Action.OFF, Action.LATER) for step in plan)


def _settle(run: RunFolder) -> None:
    """Bring to its place what a kill left whole beside it. Whoever works in the folder now does so itself."""
    if any(run.path.glob(".*")):
        with suppress(RunInUse), locked(run.path):
            for stage in stages():
                run.settle(stage)


def _report(base: RunReport, run: RunFolder, status: str, seconds: float) -> RunReport:
    mesh = launch.mesh_of(run)
    return replace(
        base,
        status=status,
        run_dir=str(run.path),
        mesh=None if mesh is None else str(mesh),
        seconds=round(seconds, 3),
        metrics=_metrics(run),
    )


def _metrics(run: RunFolder) -> dict[str, float | None] | None:
    try:
        return columns_of(parse_json(read_bytes(_metrics_file(run), _LARGEST_METRICS, within=run.path)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _metrics_file(run: RunFolder) -> Path:
    return run.folder("eval") / "metrics.json"


def finish(folder: Path, reports: tuple[RunReport, ...], request: Request) -> ManyFinished:
    """Write the tables of runs that have all ended."""
    table = make_table(
        f"{len(reports)} runs in {folder.name}",
        [_score(report) for report in reports],
        seed=0 if request.seed is None else request.seed,
    )
    measured = [report for report in reports if report.metrics is not None]
    best: dict[str, RunReport] = {}
    for report in measured:
        current = best.get(report.item)
        if current is None or _chamfer(report) < _chamfer(current):
            best[report.item] = report
    summary = {
        "by": "chamfer_l1",
        "best": {name: asdict(report) for name, report in best.items()},
        "runs": len(reports),
        "failed": [report.name for report in reports if report.status == "failed"],
        "summary": {name: asdict(entry) for name, entry in table.summary.items()},
    }
    if measured or any(report.view is not None for report in reports):
        for name, text in (("scores.csv", table.to_csv()), ("scores.md", table.to_markdown())):
            write_durably(folder / name, text.encode())
        write_durably(folder / "scores.json", table.to_json().encode())
    write_durably(folder / "runs.md", runs_table(reports).encode())
    if len({report.item for report in reports}) == 1 and best:
        _copy_best(folder, next(iter(best.values())))
    _write(folder / "summary.json", summary)
    return ManyFinished(folder, reports, table, best)


def runs_table(reports: Sequence[RunReport]) -> str:
    """What came of every run, as a table of Markdown."""
    lines = ["| picture | status | seconds | result |", "|---|---|---:|---|"]
    for report in reports:
        result = report.error or report.notes or report.mesh or report.run_dir or ""
        if report.error is not None and report.hint:
            result += f" (try: {_short(report.hint)})"
        cells = [report.name, report.status, f"{report.seconds:.1f}" if report.seconds else "", result]
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(hint: str) -> str:
    line = " ".join(hint.split())
    return line if len(line) <= _LONGEST_HINT else f"{line[: _LONGEST_HINT - 3]}..."


def _chamfer(report: RunReport) -> float:
    value = None if report.metrics is None else report.metrics["chamfer_l1"]
    return math.inf if value is None else value


def _score(report: RunReport) -> Score:
    place = report.run_dir or ""
    if report.metrics is None:
        return Score(report.name, place, report.item, error=report.error or "it was not measured")
    return Score(report.name, place, report.item, report.metrics)


def _copy_best(folder: Path, best: RunReport) -> None:
    """Put the best run's result on top, each file as a whole."""
    assert best.run_dir is not None
    run = RunFolder(Path(best.run_dir))
    mesh = launch.mesh_of(run)
    meshes = [] if mesh is None else [path for path in mesh.parent.iterdir() if path.stem == "mesh"]
    for source in (*meshes, _metrics_file(run)):
        copy_own(source, folder / source.name, within=run.path)


def _write(path: Path, record: dict[str, Any]) -> None:
    write_durably(path, write_json({"schema_version": SCHEMA_VERSION, **record}))
