"""What the trainings of `kiss3d train` have in common: their options, and how they are carried out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiss3d_cli.cli.terminal import going_on, note, print_json, show, shown_path

if TYPE_CHECKING:
    from kiss3d_cli.training.loop import TrainSettings
    from kiss3d_cli.training.task import Task

PRECISIONS = ("no", "bf16", "fp16")

Out = Annotated[Path, typer.Option(help="Folder of the training run; an existing run is resumed.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Length of the schedule, in steps.")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Length of the schedule, in minutes of training.")]
Batch = Annotated[int | None, typer.Option(min=1, max=4096, help="Examples per step and process.")]
Accumulate = Annotated[int | None, typer.Option(min=1, max=1024, help="Gradient accumulation steps.")]
Rate = Annotated[float | None, typer.Option(min=1e-7, max=1, help="Peak learning rate.")]
Share = Annotated[float | None, typer.Option(min=0.001, max=1, help="Share of the examples to train on.")]
Precision = Annotated[str, typer.Option(help="no, bf16 or fp16.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the initial weights and of every random choice.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=256, help="Processes that prepare batches: none on a CPU, most cores beside a GPU."),
]
Device = Annotated[str, typer.Option(help="cpu, or auto for what accelerate finds.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def settings_of(precision: str, **values: Any) -> TrainSettings:
    """The settings of a training: its defaults where an option was not given.

    Raises:
        BadInput: there is no such precision, or what `settings_with` refuses.
    """
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.training.loop import settings_with

    if precision not in PRECISIONS:
        raise BadInput(f"{precision} is no precision", place="--precision", hint="use no, bf16 or fp16")
    return settings_with(precision=precision, **values)


def if_there(folder: Path | None) -> Path | None:
    return folder if folder is not None and folder.is_dir() else None


def carry_out(task: Task[Any], out: Path, settings: TrainSettings, device: str, json_output: bool) -> None:
    """Train, write the weights and the report, and say where they are."""
    from kiss3d_cli.training.finish import finish
    from kiss3d_cli.training.loop import train

    with going_on("the same command goes on from its last checkpoint"):
        found = finish(task, train(task, out, settings, device=device, say=note), out)
    if json_output:
        print_json({"weights": str(found.weights), "sha256": found.sha256, "report": str(found.report)})
    else:
        show(f"{shown_path(found.weights)}\n{shown_path(found.report)}")
