"""`kiss3d train lvsm`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli import training
from kiss3d_cli.cli.terminal import handles_errors, note

VIEWS = Path("outputs/lvsm/views")
HELD_OUT = Path("outputs/lvsm/held-out")


@handles_errors
def lvsm(
    views: Annotated[Path, typer.Option(help="The folder of posed views to train on.")] = VIEWS,
    held_out: Annotated[
        Path | None, typer.Option(help="Posed views to evaluate on; skipped if the folder does not exist.")
    ] = HELD_OUT,
    out: training.Out = Path("outputs/lvsm/run"),
    steps: training.Steps = None,
    minutes: training.Minutes = None,
    batch: training.Batch = 8,
    accumulate: training.Accumulate = None,
    rate: training.Rate = 5e-4,
    kind: Annotated[str, typer.Option(help="encoder-decoder or decoder-only.")] = "encoder-decoder",
    size: Annotated[int, typer.Option(help="Side length of the views, in pixels.")] = 64,
    patch: Annotated[int, typer.Option(help="Side length of a patch, in pixels.")] = 8,
    width: Annotated[int, typer.Option(help="Width of the transformer, in channels.")] = 192,
    heads: Annotated[int, typer.Option(help="Number of attention heads.")] = 6,
    layers: Annotated[int, typer.Option(help="Layers of the decoder, and of the encoder if any.")] = 5,
    latents: Annotated[int, typer.Option(help="Number of scene tokens, with an encoder.")] = 96,
    carved: Annotated[
        bool,
        typer.Option("--carved/--no-carved", help="Correct the visual hull of several given views, or go without it."),
    ] = True,
    vgg: Annotated[
        Path | None,
        typer.Option(help="VGG-19 weights for the perceptual loss; torchvision's download cache by default."),
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Gradient checkpointing: less memory, more time.")
    ] = False,
    share: training.Share = None,
    precision: training.Precision = "no",
    seed: training.Seed = None,
    workers: training.Workers = None,
    device: training.Device = "auto",
    json_output: training.Json = False,
) -> None:
    """Train view synthesis from posed pictures, or resume training from the last checkpoint."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig
    from kiss3d_cli.models.lvsm.perceptual import find_vgg, read_vgg
    from kiss3d_cli.training.lvsm import LvsmTask

    settings = training.settings_of(
        precision, steps=steps, minutes=minutes, batch=batch, accumulate=accumulate, rate=rate, share=share, seed=seed,
        workers=workers,
    )  # fmt: skip
    encodes = kind == KINDS[0]
    try:
        config = LvsmConfig(
            kind, size, patch, width, heads, layers if encodes else 0, layers, latents if encodes else 0, carved
        )
    except ValueError as error:
        raise BadInput(f"there can't be such a network: {error}", place="kiss3d train lvsm") from error
    weights = vgg or find_vgg()
    if weights is None:
        note("note: VGG-19's weights are not here (--vgg): gradients are compared instead")
    likeness = None if weights is None else read_vgg(weights)
    task = LvsmTask(views, training.if_there(held_out), config, likeness=likeness, checkpointing=checkpointing)
    training.carry_out(task, out, settings, device, json_output)
