"""`kiss3d run` of many pictures, or over a data set: one item, all its views, or a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kiss3d_cli.cli.report import end_with_index, renew_report
from kiss3d_cli.cli.spread import Spread
from kiss3d_cli.cli.status import BELOW_LIMITS
from kiss3d_cli.cli.terminal import Bars, going_on, note, print_json, show, shown_path
from kiss3d_cli.core.errors import BadInput

ONE = Spread()

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.jobs import Job, RunReport
    from kiss3d_cli.pipeline.launch import Request


def run_dataset(
    request: Request,
    root: Path | None,
    item: str | None,
    view: str | None,
    plan: Path | None,
    dry_run: bool,
    json_output: bool,
    strict: bool = False,
    spread: Spread = ONE,
) -> None:
    """Find the pictures and ground truths, run them all, and end with one table."""
    _check(request, root, item, view, plan)
    assert root is not None
    from kiss3d_cli.pipeline.run_folder import run_name

    jobs = _jobs(root, item, view, plan)
    if request.name is not None:
        folder = request.out / run_name(request.name)
    else:
        folder = request.out / run_name(plan.stem if plan is not None else str(item))
    if dry_run:
        _show(jobs, folder, json_output)
        return
    _carry_out(jobs, request, folder, json_output, strict, spread)


def run_pictures(
    request: Request,
    pictures: Sequence[Path],
    dry_run: bool,
    json_output: bool,
    strict: bool = False,
    spread: Spread = ONE,
) -> None:
    """A run for every picture, one page and one table of them all."""
    from kiss3d_cli.pipeline.inputs import option_of
    from kiss3d_cli.pipeline.jobs import jobs_of
    from kiss3d_cli.pipeline.run_folder import run_name

    for name, value in request.inputs.items():
        raise BadInput(
            "it goes with one picture, and many were given", place=option_of(name, value), hint="leave it out"
        )
    folder = request.out if request.name is None else request.out / run_name(request.name)
    jobs: list[Job | RunReport] = [*jobs_of(pictures)]
    if dry_run:
        _show(jobs, folder, json_output)
        return
    _carry_out(jobs, request, folder, json_output, strict, spread, once=True)


def _carry_out(
    jobs: list[Job | RunReport],
    request: Request,
    folder: Path,
    json_output: bool,
    strict: bool,
    spread: Spread,
    once: bool = False,
) -> None:
    from kiss3d_cli.pipeline.many_runs import runs_table
    from kiss3d_cli.pipeline.stages import stages

    doing = {stage.name: stage.doing for stage in stages()}
    with going_on("the same command goes on with what is left"):
        finished = spread.run(
            jobs, request, folder, once, reporter=lambda name: Bars(doing, name), announce=note, ended=renew_report
        )
    end_with_index(folder, shared=spread.shard is not None)
    if json_output:
        print_json(
            {
                "folder": str(folder.resolve()),
                "runs": [asdict(report) for report in finished.reports],
                "best": {name: asdict(report) for name, report in finished.best.items()},
            }
        )
    else:
        show(runs_table(finished.reports) if once else finished.table.to_markdown(), end="")
    for name, report in finished.best.items():
        note(f"best of {name}: {report.name}, {shown_path(Path(str(report.run_dir)))}")
    failed = [report for report in finished.reports if report.status == "failed"]
    if failed:
        again = "it" if len(failed) == 1 else "them"
        note(f"{len(failed)} of {len(finished.reports)} failed; the same command tries {again} again")
        raise typer.Exit(failed[0].exit_code or 1)
    if strict and (below := [report.name for report in finished.reports if _is_below(report)]):
        note(f"{len(below)} of {len(finished.reports)} differ too much from their pictures: {', '.join(below)}")
        raise typer.Exit(BELOW_LIMITS)


def _is_below(report: RunReport) -> bool:
    from kiss3d_cli.pipeline.run_folder import RunFolder
    from kiss3d_cli.pipeline.status import read_status

    check = None if report.run_dir is None else read_status(RunFolder(Path(str(report.run_dir)))).check
    return check is not None and not check.get("within_limits")


def _check(request: Request, root: Path | None, item: str | None, view: str | None, plan: Path | None) -> None:
    if root is None:
        option = "--item" if item is not None else "--view" if view is not None else "--plan"
        raise BadInput(
            f"{option} names something in a data set, and none was given",
            place="--dataset",
            hint="kiss3d run --dataset ROOT --item ITEM",
        )
    if (item is None) == (plan is None):
        cause = "it needs --item or --plan" if item is None else "both --item and --plan were given"
        raise BadInput(cause, place="--dataset", hint="kiss3d run --dataset ROOT --item ITEM")
    if view is not None and plan is not None:
        raise BadInput("a plan has a view of its own for every object", place="--view", hint="leave --view out")
    from kiss3d_cli.pipeline.inputs import option_of

    for name, value in request.inputs.items():
        cause = "the data set has its own pictures and ground truths"
        raise BadInput(cause, place=option_of(name, value), hint="leave it out")


def _jobs(root: Path, item: str | None, view: str | None, plan: Path | None) -> list[Job | RunReport]:
    """What to run; an object of a plan that is not there becomes a failure in the report, not the end of all."""
    from kiss3d_cli.pipeline.dataset import find_jobs, is_number, read_plan
    from kiss3d_cli.pipeline.jobs import RunReport

    if plan is None:
        return [*find_jobs(root, str(item), view)]
    jobs: list[Job | RunReport] = []
    if not root.is_dir():
        raise BadInput("there is no such data set", place="--dataset", hint="give the folder of images/ and models/")
    for entry in read_plan(plan):
        try:
            jobs += find_jobs(root, entry.name, entry.view, entry.notes)
        except BadInput as error:
            number = int(entry.view) if entry.view is not None and is_number(entry.view) else None
            jobs.append(
                RunReport(
                    entry.name,
                    entry.name,
                    number,
                    entry.notes,
                    "failed",
                    error=str(error),
                    exit_code=error.exit_code,
                    hint=error.hint,
                )
            )
    return jobs


def _given(job: Job | RunReport, name: str) -> str | None:
    value = getattr(job, "inputs", {}).get(name)
    return None if value is None else str(value)


def _show(jobs: list[Job | RunReport], folder: Path, json_output: bool) -> None:
    from kiss3d_cli.pipeline.jobs import Job

    rows = [
        {
            "name": job.name,
            "picture": _given(job, "picture"),
            "ground_truth": _given(job, "ground_truth"),
            "error": None if isinstance(job, Job) else job.error,
        }
        for job in jobs
    ]
    if json_output:
        print_json({"folder": str(folder), "runs": rows})
        return
    for row in rows:
        show(f"{row['name']:<24} {row['picture'] or row['error']}")
