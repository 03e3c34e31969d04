"""`kiss3d train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli import train_lvsm, train_wavemesh, training
from kiss3d_cli.cli.invocation import as_typed_here
from kiss3d_cli.cli.terminal import going_on, handles_errors, note, print_json, show, shown_path
from kiss3d_cli.core.shell import typed

app = typer.Typer(help="Train the networks of kiss3d, on objects of your own.", no_args_is_help=True)
VIEWS = Path("outputs/prior/views")
SHARDS = 400
HELD_OUT = Path("outputs/prior/held-out")


@app.command("data")
@handles_errors
def data(
    objects: Annotated[
        Path | None,
        typer.Option(help="A folder of meshes, or of zip files beside their index.json; none: procedural ones alone."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"The folder of views, {VIEWS} or, if posed, {train_lvsm.VIEWS}; what is there is kept."),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1, max=99_999, help="Shards: of 64 views, 400 by default; or of 16 posed objects, all by default."
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(min=5, max=256, help="Number of posed views per object, for view synthesis."),
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Side length of posed views, in pixels.")] = 64,
    layout: Annotated[
        str | None,
        typer.Option(help="Read posed views of a published data set in --objects: objaverse-mix or gobjaverse."),
    ] = None,
    fields: Annotated[
        int | None,
        typer.Option(
            min=8, max=128, help="Sample signed distances on a grid of this many cells per side, with four views."
        ),
    ] = None,
    procedural: Annotated[float, typer.Option(min=0, max=1, help="Share of views of procedural objects.")] = 0.5,
    split: Annotated[
        str, typer.Option(help="`train`, `held-out`, or one held-out family: views that are never trained on.")
    ] = "train",
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same views.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Number of rendering processes.")] = 2,
    json_output: training.Json = False,
) -> None:
    """Render training views of objects with their ground truth, or with `--views` posed views from all sides."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.training.data import Recipe, make_shards
    from kiss3d_cli.training.fields import FieldRecipe, make_fields
    from kiss3d_cli.training.posed_data import make_posed
    from kiss3d_cli.training.posed_shards import find_posed

    if layout is not None and (objects is None or views is None):
        hint = f"kiss3d train data --layout {layout} --objects FOLDER --views 12"
        raise BadInput("a published set needs its folder and a number of views", place="--layout", hint=hint)
    if fields is not None and views is not None:
        raise BadInput("--fields and --views make different data", place="--fields", hint="give one of them")
    share = 1.0 if objects is None else procedural
    usual = VIEWS if views is None else train_lvsm.VIEWS
    folder = out or (usual if fields is None else train_wavemesh.FIELDS)

    def progress(done: int, count: int) -> None:
        note(f"{done} of {count} files")

    with going_on("the same command goes on with what is left"):
        if fields is not None:
            task = "wavemesh"
            count = shards if objects is not None or shards is not None else SHARDS
            grid = FieldRecipe(objects, share, seed, resolution=fields)
            notes = make_fields(folder, grid, count, workers=workers, split=split, progress=progress)
        elif views is None:
            count, task = shards or SHARDS, "prior"
            plain = Recipe(objects, share, seed)
            notes = make_shards(folder, plain, count, workers=workers, split=split, progress=progress)
        else:
            recipe, task = Recipe(objects, share, seed, views, size, layout), "lvsm"
            most = shards if objects is not None or shards is not None else SHARDS
            notes = make_posed(folder, recipe, most, workers=workers, split=split, progress=progress)
            count = len(find_posed(folder))
    for line in notes:
        note(f"note: {line}")
    if json_output:
        print_json({"views": str(folder), "shards": count, "notes": notes})
    else:
        command = as_typed_here(typed("kiss3d", "train", task, "--views", shown_path(folder)))
        show(f"views in {shown_path(folder)}; next: {command}")


@app.command("prior")
@handles_errors
def prior(
    views: Annotated[Path, typer.Option(help="The folder of views to train on.")] = VIEWS,
    held_out: Annotated[
        Path | None, typer.Option(help="Views to evaluate on; skipped if the folder does not exist.")
    ] = HELD_OUT,
    out: training.Out = Path("outputs/prior/run"),
    steps: training.Steps = None,
    minutes: training.Minutes = None,
    batch: training.Batch = None,
    accumulate: training.Accumulate = None,
    rate: training.Rate = None,
    widths: Annotated[tuple[int, int, int], typer.Option(help="Channels of the three resolution levels.")] = (
        32,
        64,
        160,
    ),
    share: training.Share = None,
    precision: training.Precision = "no",
    seed: training.Seed = None,
    workers: training.Workers = None,
    device: training.Device = "auto",
    json_output: training.Json = False,
) -> None:
    """Train, or resume training from the last checkpoint."""
    import dataclasses

    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.prior.network import PriorConfig
    from kiss3d_cli.training.prior import PriorTask

    settings = training.settings_of(
        precision, steps=steps, minutes=minutes, batch=batch, accumulate=accumulate, rate=rate, share=share, seed=seed,
        workers=workers,
    )  # fmt: skip
    if any(width % 8 or not 8 <= width <= 2048 for width in widths):
        raise BadInput(f"{widths} can't be the widths", place="--widths", hint="give three multiples of 8, 8 to 2048")
    config = dataclasses.replace(PriorConfig(), widths=widths)
    task = PriorTask(views, training.if_there(held_out), config)
    training.carry_out(task, out, settings, device, json_output)


app.command("lvsm")(train_lvsm.lvsm)
app.command("wavemesh")(train_wavemesh.wavemesh)
