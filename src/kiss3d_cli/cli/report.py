"""`kiss3d report`, and the report that every run ends with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note, print_json, shown_path
from kiss3d_cli.core.errors import BadInput, Kiss3dError

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.run_folder import RunFolder


@handles_errors
def report(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="RUN_DIR", help="A run folder; the newest in outputs/ by default.", show_default=False),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Make a run's report.html: one page with pictures, the mesh, times and settings."""
    from kiss3d_cli.report.run_report import write_report

    path = write_report(_run_folder(target))
    if json_output:
        print_json({"report": str(path.resolve())})
    else:
        print(shown_path(path))
    if open_page and typer.launch(path.resolve().as_uri()) != 0:
        note("no browser could be opened; open the file yourself")


def end_with_report(folder: RunFolder) -> None:
    """Write the report of a run that just ended, however it ended. A failure here is a note, no more."""
    try:
        from kiss3d_cli.report.run_report import write_report

        path = write_report(folder)
    except KeyboardInterrupt:
        note(f"the report was left out: kiss3d report {shown_path(folder.path)} makes it")
    except Exception as error:  # whatever it is, the run itself is not touched by it
        cause = str(error) if isinstance(error, Kiss3dError) else f"{type(error).__name__}: {error}"
        note(f"note: the report could not be made ({' '.join(cause.split())[:300]})")
    else:
        note(f"report: {shown_path(path)}")


def _run_folder(target: Path | None) -> RunFolder:
    from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs

    if target is not None:
        return RunFolder(target)
    runs = find_runs(Path("outputs"))
    if not runs:
        raise BadInput("there is no run in outputs/", place="RUN_DIR", hint="kiss3d run image.png")
    return runs[0]
