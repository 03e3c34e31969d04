"""`kiss3d resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.plan import show_plan, tell_plan
from kiss3d_cli.cli.run import STRICT_HELP, carry_out
from kiss3d_cli.cli.terminal import command_line, handles_errors, note


@handles_errors
def resume(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Rerun this stage and all later ones.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost without running it.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help=STRICT_HELP)] = False,
) -> None:
    """Resume a run: redo what is missing, stale or damaged, and say why."""
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.run_folder import RunFolder

    folder = RunFolder(run_dir)
    folder.record()

    if dry_run:
        planned = launch.look(folder, tuple(assignments or ()), from_stage, until)
        show_plan(planned, json_output, str(run_dir.resolve()))
        return
    carry_out(
        folder,
        lambda reporter: launch.resume(
            run_dir,
            tuple(assignments or ()),
            from_stage,
            until,
            command=command_line(),
            reporter=reporter,
            announce=lambda planned: tell_plan(planned, note),
        ),
        json_output,
        strict,
    )
