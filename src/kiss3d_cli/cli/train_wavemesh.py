"""`kiss3d train wavemesh`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path

FIELDS = Path("outputs/wavemesh/fields")
HELD_OUT = Path("outputs/wavemesh/held-out")


@handles_errors
def wavemesh(
    views: Annotated[Path, typer.Option(help="The folder of signed distances with views to train on.")] = FIELDS,
    held_out: Annotated[
        Path | None, typer.Option(help="A folder of the same to measure on; none if it is not there.")
    ] = HELD_OUT,
    out: Annotated[Path, typer.Option(help="The training run; one that is there goes on.")] = Path(
        "outputs/wavemesh/run"
    ),
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the schedule, in steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Length of the schedule, in minutes of training.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Objects per step and process.")] = 8,
    accumulate: Annotated[int | None, typer.Option(min=1, max=1024, help="Gradient accumulation steps.")] = None,
    rate: Annotated[float, typer.Option(min=1e-7, max=1, help="Peak learning rate.")] = 5e-4,
    resolution: Annotated[int, typer.Option(min=8, max=128, help="Cells a side of the volume.")] = 32,
    wavelet: Annotated[str, typer.Option(help="haar, bior4.4, coif1, or another one that PyWavelets knows.")] = (
        "bior4.4"
    ),
    level: Annotated[int, typer.Option(min=1, max=4, help="How often the volume is split.")] = 1,
    schedule: Annotated[str, typer.Option(help="Of the noise: cosine or linear.")] = "cosine",
    prediction: Annotated[str, typer.Option(help="What the network says: v, x0 or epsilon.")] = "v",
    widths: Annotated[str, typer.Option(help="Channels of the sites and of each halving of their grid.")] = (
        "32,64,128,256"
    ),
    features: Annotated[
        str,
        typer.Option(
            help="Of the views' patches: own, learned along; frozen, with a pretrained network's too; auto takes "
            "it on a GPU where its weights are here."
        ),
    ] = "auto",
    root: Annotated[Path | None, typer.Option(help="The models' folder, as of kiss3d models pull --root.")] = None,
    share: Annotated[float | None, typer.Option(min=0.001, max=1, help="Share of the objects that is used.")] = None,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the initial weights and of every random choice.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or auto for what accelerate finds.")] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train reconstruction from four views, or go on; killed at any moment it goes on from its last checkpoint."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
    from kiss3d_cli.models.wavemesh.described import described_by
    from kiss3d_cli.training.finish import finish
    from kiss3d_cli.training.loop import settings_with, train
    from kiss3d_cli.training.wavemesh import WaveMeshTask

    if precision not in ("no", "bf16", "fp16"):
        raise BadInput(f"{precision} is no precision", place="--precision", hint="use no, bf16 or fp16")
    try:
        channels = tuple(int(width) for width in widths.split(","))
    except ValueError:
        hint = "give whole numbers with commas: 32,64,128,256"
        raise BadInput(f"{widths} can't be the widths", place="--widths", hint=hint) from None
    describe = described_by(features, root, device)
    config = WaveMeshConfig(
        resolution=resolution, wavelet=wavelet, level=level, schedule=schedule, prediction=prediction, widths=channels,
        frozen=0 if describe is None else describe.width,
    )  # fmt: skip
    settings = settings_with(
        steps=steps, minutes=minutes, batch=batch, accumulate=accumulate, rate=rate, share=share, seed=seed,
        precision=precision,
    )  # fmt: skip
    there = held_out if held_out is not None and held_out.is_dir() else None
    task = WaveMeshTask(views, there, config, describe)
    found = finish(task, train(task, out, settings, device=device, say=note), out)
    if json_output:
        print_json({"weights": str(found.weights), "sha256": found.sha256, "report": str(found.report)})
    else:
        show(f"{shown_path(found.weights)}\n{shown_path(found.report)}")
