"""`kiss3d report`, and the report that every run ends with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiss3d_cli.cli.runs_there import newest_run
from kiss3d_cli.cli.terminal import Bars, handles_errors, note, print_json, show, shown_path
from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.core.shell import typed

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.run_folder import RunFolder


@handles_errors
def report(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="A run folder, or a folder of runs; the newest run by default.", show_default=False
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    turntable: Annotated[
        bool, typer.Option("--turntable", help="Also film one turn: MP4, or GIF without ffmpeg.")
    ] = False,
    gif: Annotated[bool, typer.Option("--gif", help="Film the turn as GIF.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a run's report.html, or one index.html of many runs: pictures, the mesh, times and settings."""
    from kiss3d_cli.pipeline.run_folder import RUN, RunFolder, find_runs

    folder = target if target is not None else newest_run("DIR").path
    if not (folder / RUN).is_file() and find_runs(folder):
        if turntable or gif:
            raise BadInput("a turntable shows one run", place=str(folder), hint="kiss3d report RUN_DIR --turntable")
        from kiss3d_cli.report.runs_report import write_runs_report

        files = {"report": write_runs_report(folder, note)}
    else:
        from kiss3d_cli.report.run_report import write_report

        run = RunFolder(folder)
        run.record()
        files = {"turntable": _film(run, gif)} if turntable or gif else {}
        files["report"] = write_report(run)
    if json_output:
        print_json({name: str(path.resolve()) for name, path in files.items()})
    else:
        for path in files.values():
            show(shown_path(path))
    if open_page and typer.launch(files["report"].resolve().as_uri()) != 0:
        note("no browser could be opened; open the file yourself")


def _film(folder: RunFolder, gif: bool) -> Path:
    from kiss3d_cli.core import device as devices
    from kiss3d_cli.report.run_view import read_run
    from kiss3d_cli.report.turntable import best_format, write_turntable

    kind = "gif" if gif else best_format()
    if kind == "gif" and not gif:
        note("note: imageio-ffmpeg is not installed (pip install 'kiss3d[turntable]'), so the turn is written as GIF")
    bars = Bars({"turntable": "rendering"})
    bars.stage_started("turntable", kind)
    try:
        return write_turntable(
            read_run(folder),
            kind,
            devices.resolve().torch,
            progress=lambda share: bars.stage_progress("turntable", share, ""),
        )
    finally:
        bars.stage_ended("turntable", "off", 0.0)


def end_with_report(folder: RunFolder, interrupted: bool = False) -> None:
    """Write the report of a run that just ended, however it ended. A failure here is a note, no more.

    Args:
        interrupted: what is wanted may have been cut short within an import, and can't be used any more.
    """

    def write() -> Path:
        from kiss3d_cli.report.run_report import write_report

        return write_report(folder)

    _or_note(write, folder.path, interrupted)


def renew_report(folder: RunFolder) -> None:
    """The same for one of many runs; a report that is up to date is kept."""
    from kiss3d_cli.report.run_report import is_current

    if not is_current(folder):
        end_with_report(folder)


def end_with_index(folder: Path, *, shared: bool = False) -> None:
    """Write the page of many runs that just ended, likewise; none where no run could be started.

    Args:
        shared: other workers end with the same runs, and one of them writes it: ten thousand rows take minutes.
    """
    from kiss3d_cli.core.errors import RunInUse
    from kiss3d_cli.pipeline.lock import locked
    from kiss3d_cli.pipeline.run_folder import find_runs
    from kiss3d_cli.pipeline.shards import CLAIMS

    if not (runs := find_runs(folder)):
        return

    def write() -> Path:
        from kiss3d_cli.report.runs_report import INDEX, is_newer, write_runs_report

        return folder / INDEX if shared and is_newer(folder, runs) else write_runs_report(folder)

    if not shared:
        _or_note(write, folder)
        return
    try:
        with locked(folder / CLAIMS):
            _or_note(write, folder)
    except RunInUse:
        note("report: another worker is writing it")


def _or_note(write: Callable[[], Path], folder: Path, interrupted: bool = False) -> None:
    left_out = f"the report was left out: {typed('kiss3d', 'report', shown_path(folder))} makes it"
    try:
        path = write()
    except KeyboardInterrupt:
        note(left_out)
    except Exception as error:  # whatever it is, the run itself is not touched by it
        if interrupted and not isinstance(error, Kiss3dError | OSError):
            note(left_out)
            return
        cause = str(error) if isinstance(error, Kiss3dError) else f"{type(error).__name__}: {error}"
        note(f"note: the report could not be made ({' '.join(cause.split())[:300]})")
    else:
        note(f"report: {shown_path(path)}")
