"""`kiss3d train wavemesh`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli import training
from kiss3d_cli.cli.terminal import handles_errors

FIELDS = Path("outputs/wavemesh/fields")
HELD_OUT = Path("outputs/wavemesh/held-out")


@handles_errors
def wavemesh(
    views: Annotated[Path, typer.Option(help="The folder of signed distances with views to train on.")] = FIELDS,
    held_out: Annotated[
        Path | None, typer.Option(help="The same to evaluate on; skipped if the folder does not exist.")
    ] = HELD_OUT,
    out: training.Out = Path("outputs/wavemesh/run"),
    steps: training.Steps = None,
    minutes: training.Minutes = None,
    batch: training.Batch = 8,
    accumulate: training.Accumulate = None,
    rate: training.Rate = 5e-4,
    resolution: Annotated[int, typer.Option(min=8, max=128, help="Cells per side of the volume.")] = 32,
    wavelet: Annotated[str, typer.Option(help="haar, bior4.4, coif1, or another one that PyWavelets knows.")] = (
        "bior4.4"
    ),
    level: Annotated[int, typer.Option(min=1, max=4, help="Number of wavelet decomposition levels.")] = 1,
    schedule: Annotated[str, typer.Option(help="Noise schedule: cosine or linear.")] = "cosine",
    prediction: Annotated[str, typer.Option(help="Prediction target: v, x0 or epsilon.")] = "x0",
    widths: Annotated[str, typer.Option(help="Channels of the U-Net levels, finest first.")] = ("32,64,128,256"),
    features: Annotated[
        str,
        typer.Option(
            help="Of the views' patches: own, learned along; frozen, with a pretrained network's too; auto takes "
            "it on a GPU where its weights are here."
        ),
    ] = "auto",
    root: Annotated[Path | None, typer.Option(help="The models' folder, as of kiss3d models pull --root.")] = None,
    share: training.Share = None,
    precision: training.Precision = "no",
    seed: training.Seed = None,
    workers: training.Workers = None,
    device: training.Device = "auto",
    json_output: training.Json = False,
) -> None:
    """Train reconstruction from four views, or resume training from the last checkpoint."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
    from kiss3d_cli.models.wavemesh.described import described_by
    from kiss3d_cli.training.wavemesh import WaveMeshTask

    settings = training.settings_of(
        precision, steps=steps, minutes=minutes, batch=batch, accumulate=accumulate, rate=rate, share=share, seed=seed,
        workers=workers,
    )  # fmt: skip
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
    task = WaveMeshTask(views, training.if_there(held_out), config, describe)
    training.carry_out(task, out, settings, device, json_output)
