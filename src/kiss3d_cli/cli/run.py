"""`kiss3d run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from kiss3d_cli.cli.plan import show_plan
from kiss3d_cli.cli.report import end_with_report
from kiss3d_cli.cli.settings_help import help_settings
from kiss3d_cli.cli.spread import Spread
from kiss3d_cli.cli.status import BELOW_LIMITS, check_line
from kiss3d_cli.cli.terminal import (
    Bars,
    command_line,
    error_record,
    handles_errors,
    note,
    print_json,
    show,
    show_error,
    shown_path,
)
from kiss3d_cli.cli.views_option import METAVAR, bundle_of_views
from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, from_exception
from kiss3d_cli.core.shell import typed
from kiss3d_cli.pipeline.inputs import given, kinds
from kiss3d_cli.pipeline.jobs import is_many
from kiss3d_cli.pipeline.joined_views import NORMALS, VIEWS
from kiss3d_cli.pipeline.names import picture_name

STRICT_HELP = "Exit with code 7 if the mesh does not match its picture."


def _with_inputs(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for every kind of input that is not its argument, as if it had been written down."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    own = [part for part in signature.parameters.values() if part.kind is not inspect.Parameter.VAR_KEYWORD]
    for kind in kinds().values():
        if kind.option.startswith("--"):
            hints[kind.name] = Annotated[
                (str if kind.typed else Path) | None,
                typer.Option(kind.option, metavar=kind.metavar, help=kind.help, show_default=False),
            ]
            own.append(inspect.Parameter(kind.name, inspect.Parameter.KEYWORD_ONLY, default=None))
    hints.pop("inputs", None)
    command.__annotations__ = hints
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[part.replace(annotation=hints[part.name]) for part in own]
    )
    return command


@_with_inputs
@handles_errors
def run(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PICTURE",
            help="The picture: PNG, JPEG, WebP, ...; or many: files, folders, or lists of them in .txt files.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="auto, draft, 12gb, fast or quality.")] = "auto",
    out: Annotated[Path, typer.Option(help="Parent folder of the run folder.")] = Path("outputs"),
    name: Annotated[
        str | None,
        typer.Option(help="The run's name; the picture's by default."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    caption: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Caption to use instead of a generated one.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of the run.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Strength of image-to-image for the bundle, from 0 to 1.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", help="Take picture and ground truth from this data set.", show_default=False),
    ] = None,
    item: Annotated[str | None, typer.Option(help="The data set's item.", show_default=False)] = None,
    view: Annotated[
        str | None, typer.Option(metavar="N|all", help="The item's view; the first by default.", show_default=False)
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="Run the data set's items that this plan lists.", show_default=False),
    ] = None,
    views: Annotated[
        list[str] | None,
        typer.Option(
            VIEWS,
            metavar=METAVAR,
            help="The views of a bundle as single pictures, instead of --bundle.",
            show_default=False,
        ),
    ] = None,
    normals: Annotated[
        list[str] | None, typer.Option(NORMALS, metavar=METAVAR, help="Their normal maps.", show_default=False)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Many pictures: work on this share first, in one of N processes.", show_default=False
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Many pictures: distribute them over this Ray cluster, or over this machine without an address.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without running it.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help=STRICT_HELP)] = False,
    list_settings: Annotated[
        bool,
        typer.Option("--help-settings", callback=help_settings, is_eager=True, help="List every setting and exit."),
    ] = False,
    **inputs: Path | str | None,
) -> None:
    """Turn PICTURE into a textured 3D mesh, or many pictures into one mesh each."""
    del list_settings
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.without_effect import without_effect

    many = is_many(pictures or [])
    with bundle_of_views(views or [], normals or []) as joined:
        if joined and inputs.get("bundle") is not None:
            raise BadInput("both --bundle and --views were given", place="--views", hint="give one of the two")
        request = launch.Request(
            given(picture=None if many or not pictures else pictures[0], **{**inputs, **joined}),
            preset=preset,
            config_file=config,
            settings=tuple(assignments or ()),
            caption=caption,
            seed=seed,
            strength=strength,
            out=out,
            name=name if name is not None or many or not pictures else picture_name(pictures[0]),
            until=until,
            command=command_line(),
        )
        spread = Spread(shard, ray)
        if spread and not many and plan is None and view != "all":
            raise BadInput("there is one run to do", place=spread.option, hint="give many pictures, or --plan")
        if dataset is not None or item is not None or view is not None or plan is not None:
            from kiss3d_cli.cli.run_many import run_dataset

            if many:
                raise BadInput("the data set has its own pictures", place="PICTURE", hint="leave them out")
            run_dataset(request, dataset, item, view, plan, dry_run, json_output, strict, spread)
            return
        if many:
            from kiss3d_cli.cli.run_many import run_pictures

            run_pictures(request, pictures or [], dry_run, json_output, strict, spread)
            return
        prepared = launch.prepare(request)
        note(f"preset {prepared.record.preset} ({prepared.record.preset_reason}), on {prepared.device.model}")
        for line in without_effect(request.settings, prepared.record.config, prepared.plan):
            note(f"note: {line}")
        if dry_run:
            show_plan(prepared, json_output)
            return
        folder = launch.open_run(prepared)
        note(f"run folder: {shown_path(folder.path)}")
    carry_out(
        folder,
        lambda reporter: launch.work(folder, prepared.models, until, reporter),
        json_output,
        strict,
    )


def carry_out(
    folder: Any, do: Any, json_output: bool, strict: bool = False, has_begun: Callable[[], bool] = lambda: True
) -> None:
    """Run the stages with progress bars and report the outcome; an error comes with the command that continues.

    Args:
        strict: exit with `BELOW_LIMITS` if the mesh's check is below its limits.
        has_begun: asked after an error: before anything begins, the run is as it was.
    """
    from kiss3d_cli.pipeline.stages import stages
    from kiss3d_cli.pipeline.status import read_status

    reporter = Bars({stage.name: stage.doing for stage in stages()})
    try:
        finished = do(reporter)
    except (Kiss3dError, OSError, MemoryError, KeyboardInterrupt) as error:
        known = from_exception(error)
        if known is None:
            raise
        if has_begun():
            end_with_report(folder, isinstance(known, Interrupted))
        if has_begun() or not isinstance(known, BadInput):  # else the command was wrong, and is to be typed again
            go_on = typed("kiss3d", "resume", shown_path(folder.path))
            again = known.hint is not None and not isinstance(known, Interrupted)
            known.hint = f"{known.hint}\n  then: {go_on}" if again else go_on
        if json_output:
            print_json({**run_record(folder), "error": error_record(known)})
            show_error(known)
            raise typer.Exit(known.exit_code) from None
        raise known from error
    end_with_report(folder)
    status = read_status(folder)
    check = status.check
    below = strict and check is not None and not check.get("within_limits")
    if json_output:
        print_json(run_record(folder, finished.outcomes))
        raise typer.Exit(BELOW_LIMITS if below else 0)
    if check is not None:
        note(check_line(check))
    seconds = sum(outcome.seconds for outcome in finished.outcomes)
    idle = all(outcome.status != "done" for outcome in finished.outcomes)
    took = "nothing to do: everything is up to date" if idle else f"done in {seconds:.1f} s"
    stopped = any(outcome.status == "later" for outcome in finished.outcomes)  # a mesh may be there, of before
    if finished.mesh is not None and not stopped:
        note(took)
        for name in status.exported:
            note(f"exported: {shown_path(folder.path / name)}")
        show(shown_path(finished.mesh))
    else:
        note(f"stopped as asked, after {seconds:.1f} s")
        show(shown_path(folder.path))
    if below:
        raise typer.Exit(BELOW_LIMITS)


def run_record(folder: Any, outcomes: Any = None) -> dict[str, Any]:
    """The object that `--json` prints."""
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.status import read_status

    status = read_status(folder)
    mesh = launch.mesh_of(folder)
    ran = {outcome.stage: outcome for outcome in outcomes or ()}
    return {
        "run_dir": str(folder.path.resolve()),
        "mesh": None if mesh is None else str(mesh.resolve()),
        "preset": status.preset,
        "exported": [str(folder.path.resolve() / name) for name in status.exported],
        "check": status.check,
        "stages": [
            {
                "name": row.stage,
                "method": row.method,
                "status": ran[row.stage].status if row.stage in ran else row.status,
                "reason": ran[row.stage].reason if row.stage in ran else row.reason,
                "seconds": row.seconds,
                "warnings": list(row.warnings),
            }
            for row in status.rows
        ],
    }
