"""Sampling a bundle with Flux: conversion between the stages' files and the network's tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import load_file

from kiss3d_cli.core.errors import DamagedRun
from kiss3d_cli.image.conditions import condition
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.views import to_bytes
from kiss3d_cli.methods.base import Context, Machine, once
from kiss3d_cli.methods.bundle.flux_settings import CONTROLNET, Asked, Drawing, bundle_lora
from kiss3d_cli.models.flux import pipeline
from kiss3d_cli.models.flux.comfyui import flux_files
from kiss3d_cli.models.flux.denoise import Prompt
from kiss3d_cli.models.flux.loading import transformer_file
from kiss3d_cli.models.flux.published import CONTROLNET_FILE
from kiss3d_cli.models.flux.resident import Files
from kiss3d_cli.models.store.locate import file_of

Picture = UInt8[np.ndarray, "H W 3"]

HINT = "kiss3d resume with --set device.memory_limit=... (a smaller one streams more), or a smaller bundle.tile"
OTHERWISE = "kiss3d models verify, or --set bundle.method=reference, and report it with the name of your GPU"


class Studio:
    """Flux's networks at work on the bundles of runs with these settings."""

    def __init__(self, settings: Drawing, machine: Machine, strength: float) -> None:
        """
        Args:
            strength: share of the schedule that is run.
        """
        self._redux_factor = settings.redux_factor
        sketch = pipeline.Sketch(
            2 * settings.tile,
            4 * settings.tile,
            settings.scheduler,
            settings.steps,
            strength,
            settings.guidance,
            settings.seed,
            HINT,
            OTHERWISE,
        )
        files = once(lambda: _files(settings, machine))
        self._flux = pipeline.Studio(sketch, files, machine.device, alone=machine.calls == 1)

    def __enter__(self) -> Studio:
        self._flux.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._flux.__exit__(*error)

    def draw(self, context: Context, reference: Picture | None = None, asked: Sequence[Asked] = ()) -> None:
        """Write bundle.png, and the pictures of the controls.

        Args:
            reference: what noise is added to; None for noise alone.
            asked: controls taken from the reference.
        """
        guides = []
        for mode, scale, start, end in asked:
            assert reference is not None, "a control is taken from the reference"
            picture = condition(mode, reference)
            write_png(context.output / f"control_{mode}.png", picture)
            guides.append(pipeline.Guide(mode, picture, scale, start, end))
        drawn = self._flux.draw(context, lambda: _prompt(self._redux_factor, context), reference, guides)
        write_png(context.output / "bundle.png", to_bytes(drawn))


def _files(settings: Drawing, machine: Machine) -> Files:
    folder = machine.models[settings.transformer]
    parts, union = flux_files(machine.models["flux-dev"]), machine.models.get(CONTROLNET)
    return Files(
        parts.transformer if settings.transformer == "flux-dev" else transformer_file(folder),
        parts.vae,
        None if union is None else file_of(union, CONTROLNET_FILE),
        bundle_lora(machine),
        settings.lora_scale,
    )


def _prompt(redux_factor: float, context: Context) -> Prompt:
    """T5's words followed by Redux's; as the prompt stage wrote them."""
    try:
        words = load_file(context.inputs["prompt/prompt.safetensors"])
        redux = load_file(context.inputs["prompt/redux.safetensors"])["redux"]
        return Prompt(torch.cat([words["t5"], redux_factor * redux], 1), words["clip"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise DamagedRun(f"the prompt's artifacts can't be used: {error}", hint="resume with --from prompt") from error
