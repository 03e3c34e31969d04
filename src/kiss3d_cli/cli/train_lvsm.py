"""`kiss3d train lvsm`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path

VIEWS = Path("outputs/lvsm/views")
HELD_OUT = Path("outputs/lvsm/held-out")


@handles_errors
def lvsm(
    views: Annotated[Path, typer.Option(help="The folder of posed views to train on.")] = VIEWS,
    held_out: Annotated[
        Path | None, typer.Option(help="A folder of posed views to measure on; none if it is not there.")
    ] = HELD_OUT,
    out: Annotated[Path, typer.Option(help="The training run; one that is there goes on.")] = Path("outputs/lvsm/run"),
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the schedule, in steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Length of the schedule, in minutes of training.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Objects per step and process.")] = 8,
    accumulate: Annotated[int | None, typer.Option(min=1, max=1024, help="Gradient accumulation steps.")] = None,
    rate: Annotated[float, typer.Option(min=1e-7, max=1, help="Peak learning rate.")] = 5e-4,
    kind: Annotated[str, typer.Option(help="encoder-decoder or decoder-only.")] = "encoder-decoder",
    size: Annotated[int, typer.Option(help="Pixels a side of the views.")] = 64,
    patch: Annotated[int, typer.Option(help="Pixels a side of a token.")] = 8,
    width: Annotated[int, typer.Option(help="Channels of a token.")] = 192,
    heads: Annotated[int, typer.Option(help="Heads of attention.")] = 6,
    layers: Annotated[int, typer.Option(help="Layers of the decoder, and of the encoder if there is one.")] = 5,
    latents: Annotated[int, typer.Option(help="Tokens of a scene, with an encoder.")] = 96,
    vgg: Annotated[
        Path | None,
        typer.Option(help="VGG-19's weights for the perceptual loss; by default those that torchvision downloaded."),
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Recompute layers for their gradients: less memory, more time.")
    ] = False,
    share: Annotated[float | None, typer.Option(min=0.001, max=1, help="Share of the views that is used.")] = None,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the initial weights and of every random choice.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or auto for what accelerate finds.")] = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train view synthesis from posed pictures, or go on; killed at any moment it goes on from its checkpoint."""
    from kiss3d_cli.core.errors import BadInput
    from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig
    from kiss3d_cli.models.lvsm.perceptual import find_vgg, read_vgg
    from kiss3d_cli.training.finish import finish
    from kiss3d_cli.training.loop import settings_with, train
    from kiss3d_cli.training.lvsm import LvsmTask

    if precision not in ("no", "bf16", "fp16"):
        raise BadInput(f"{precision} is no precision", place="--precision", hint="use no, bf16 or fp16")
    encodes = kind == KINDS[0]
    try:
        config = LvsmConfig(
            kind, size, patch, width, heads, layers if encodes else 0, layers, latents if encodes else 0
        )
    except ValueError as error:
        raise BadInput(f"there can't be such a network: {error}", place="kiss3d train lvsm") from error
    settings = settings_with(
        steps=steps, minutes=minutes, batch=batch, accumulate=accumulate, rate=rate, share=share, seed=seed,
        precision=precision,
    )  # fmt: skip
    weights = vgg or find_vgg()
    if weights is None:
        note("note: VGG-19's weights are not here (--vgg): gradients are compared instead")
    there = held_out if held_out is not None and held_out.is_dir() else None
    likeness = None if weights is None else read_vgg(weights)
    task = LvsmTask(views, there, config, likeness=likeness, checkpointing=checkpointing)
    found = finish(task, train(task, out, settings, device=device, say=note), out)
    if json_output:
        print_json({"weights": str(found.weights), "sha256": found.sha256, "report": str(found.report)})
    else:
        show(f"{shown_path(found.weights)}\n{shown_path(found.report)}")
