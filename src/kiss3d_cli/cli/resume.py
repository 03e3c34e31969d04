"""`kiss3d resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.plan import show_plan, tell_plan
from kiss3d_cli.cli.run import STRICT_HELP, carry_out
from kiss3d_cli.cli.runs_there import newest_run, one_run
from kiss3d_cli.cli.terminal import command_line, handles_errors, note, shown_path


@handles_errors
def resume(
    run_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_DIR", help="A run folder; the newest run in outputs/ by default.", show_default=False
        ),
    ] = None,
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
    from kiss3d_cli.pipeline.plan import Action
    from kiss3d_cli.pipeline.without_effect import without_effect

    folder = newest_run("RUN_DIR") if run_dir is None else one_run(run_dir, "resume")
    before = folder.record()
    if run_dir is None:
        note(f"run folder: {shown_path(folder.path)}")
    begun: list[bool] = []

    def announce(planned: launch.Planned) -> None:
        for line in without_effect(assignments or (), planned.record.config, planned.plan, before.config):
            note(f"note: {line}")
        if any(step.action not in (Action.SKIP, Action.OFF) for step in planned.plan):
            tell_plan(planned, note)
        begun.append(True)

    if dry_run:
        planned = launch.look(folder, tuple(assignments or ()), from_stage, until)
        show_plan(planned, json_output, str(folder.path.resolve()))
        return
    carry_out(
        folder,
        lambda reporter: launch.resume(
            folder.path,
            tuple(assignments or ()),
            from_stage,
            until,
            command=command_line(),
            reporter=reporter,
            announce=announce,
        ),
        json_output,
        strict,
        has_begun=lambda: bool(begun),
    )
