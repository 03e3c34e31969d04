"""Many runs in one folder, one after the other: what is done is skipped, what was cut short is taken up again.

FOLDER/
  ITEM_0-20250101-120000/   run folders
  runs_report.json          every run, written after each
  scores.md .csv .json      their table
  summary.json              the best run of every item, by Chamfer L1
  mesh.glb, metrics.json    of the best run, where all runs are of one item
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Interrupted, Kiss3dError, from_exception
from kiss3d_cli.core.files import copy_own, read_bytes, write_durably
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.progress import Reporter
from kiss3d_cli.core.records import parse_json, write_json
from kiss3d_cli.evaluation.scores import Score, ScoreTable, make_table
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.dataset import Job
from kiss3d_cli.pipeline.launch import Prepared, Request
from kiss3d_cli.pipeline.measure import columns_of
from kiss3d_cli.pipeline.plan import Action
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs

SCHEMA_VERSION = 1
_LARGEST_METRICS = 4 * 2**20
"""Bytes of metrics.json."""
DATASET_SETTINGS = ("eval.align=similarity",)
"""A data set's meshes are in units and frames of their own; any other layer of settings wins over this."""


@dataclass(frozen=True)
class RunReport:
    """What came of one run.

    Attributes:
        name: of the run.
        item, view, notes: which picture, and what the plan says about it.
        status: done, skipped (it was done before) or failed.
        run_dir: its folder; None if it could not be started.
        mesh: its result; None without one.
        seconds: wall time of this attempt.
        error: why it failed, else None.
        exit_code: of that error.
        metrics: the columns of a table, from metrics.json; None without it.
    """

    name: str
    item: str
    view: int | None
    notes: str
    status: str
    run_dir: str | None = None
    mesh: str | None = None
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0
    metrics: dict[str, float | None] | None = None


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
    reporter: Reporter | None = None,
    cancelled: threading.Event | None = None,
    announce: Callable[[str], None] = lambda _text: None,
    ended: Callable[[RunFolder], None] = lambda _run: None,
) -> ManyFinished:
    """Run the jobs; a failure is noted and the next one starts.

    Args:
        jobs: what to run; a report of a job that could not even be found is passed on as it is.
        request: settings of all runs; picture, ground truth, name and place are put in for each.
        folder: made if it is not there.
        announce: told what is about to happen.
        ended: told of each run that was worked on, however it ended.

    Raises:
        Interrupted: the user stopped; the reports of what was done are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reports: list[RunReport] = []
    for number, job in enumerate(jobs, 1):
        announce(f"{number} of {len(jobs)}: {job.name}")
        report = _run(job, request, folder, reporter, cancelled, ended) if isinstance(job, Job) else job
        announce(f"  {report.status}{f': {report.error}' if report.error else ''}")
        reports.append(report)
        _write(folder / "runs_report.json", {"runs": [asdict(entry) for entry in reports]})
    return _finish(folder, tuple(reports), request)


def _run(
    job: Job,
    request: Request,
    folder: Path,
    reporter: Reporter | None,
    cancelled: threading.Event | None,
    ended: Callable[[RunFolder], None],
) -> RunReport:
    own = replace(
        request,
        picture=job.item.pictures[job.view],
        ground_truth=job.item.ground_truth,
        name=job.name,
        out=folder,
        base_settings=(*DATASET_SETTINGS, *request.base_settings),
    )
    blank = RunReport(job.name, job.item.name, job.view, job.notes, "failed")
    run: RunFolder | None = None
    try:
        prepared = launch.prepare(own)
        run = _earlier(prepared, folder)
        if run is not None and _is_done(run):
            return _report(blank, run, "skipped", 0.0)
        if run is not None:
            try:
                finished = launch.resume(run.path, command=own.command, reporter=reporter, cancelled=cancelled)
            finally:
                ended(run)
        else:
            run = launch.open_run(prepared)
            try:
                finished = launch.work(run, prepared.models, own.until, reporter, cancelled)
            finally:
                ended(run)
        return _report(blank, run, "done", sum(outcome.seconds for outcome in finished.outcomes))
    except (Kiss3dError, OSError, MemoryError) as error:
        known = from_exception(error)
        if known is None or isinstance(known, Interrupted):
            raise
        failed = replace(blank, error=str(known), exit_code=known.exit_code)
        return failed if run is None else replace(failed, run_dir=str(run.path))


def _earlier(prepared: Prepared, folder: Path) -> RunFolder | None:
    """The newest run of the same files with the same settings."""
    wanted = {name: file_sha256(path) for name, path in prepared.files.items()}
    for run in find_runs(folder):
        try:
            record = run.record()
        except Kiss3dError:
            continue
        given = {name: entry.sha256 for name, entry in record.inputs.items()}
        if given == wanted and record.config == prepared.record.config and record.name == prepared.record.name:
            return run
    return None


def _is_done(run: RunFolder) -> bool:
    plan, _models, _missing = launch.plan_resume(run, run.record())
    return all(step.action in (Action.SKIP, Action.OFF) for step in plan)


def _report(blank: RunReport, run: RunFolder, status: str, seconds: float) -> RunReport:
    mesh = launch.mesh_of(run)
    return replace(
        blank,
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


def _finish(folder: Path, reports: tuple[RunReport, ...], request: Request) -> ManyFinished:
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
    for name, text in (("scores.csv", table.to_csv()), ("scores.md", table.to_markdown())):
        write_durably(folder / name, text.encode())
    write_durably(folder / "scores.json", table.to_json().encode())
    if len({report.item for report in reports}) == 1 and best:
        _copy_best(folder, next(iter(best.values())))
    _write(folder / "summary.json", summary)
    return ManyFinished(folder, reports, table, best)


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
