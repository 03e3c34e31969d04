"""The bundle of a coarse mesh, redrawn by Flux as the published code does (image-to-image)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Opened
from kiss3d_cli.methods.bundle.flux import redrawing
from kiss3d_cli.methods.bundle.flux_settings import CONTROLNET, Asked, Drawing, OfFlux, drawing_cost, drawing_models
from kiss3d_cli.methods.cost import Cost, Surroundings

STRENGTH = 0.95
CONTROLS: tuple[Asked, ...] = (("tile", 0.1, 0.0, 0.2),)


class Enhance(OfFlux[Drawing]):
    """As published for meshes: a strength of 0.95, ControlNet tile at 0.1 for a fifth of the schedule, no Redux tokens.

    The LoRA is `rgb_normal_redux.safetensors`. `bundle.strength`, `bundle.redux` and the controls' settings do not
    count; `flux` heeds them.
    """

    stage, name, version = "bundle", "enhance", 1
    settings = Drawing
    reads = ("reference/reference_bundle.png", "prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)
    help = "refines it (image-to-image) as published for `--mesh`"

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return (*drawing_models(settings), CONTROLNET)

    def cost(self, settings: Drawing, around: Surroundings) -> Cost:
        return drawing_cost(settings, around, STRENGTH, CONTROLS)

    @contextmanager
    def open(self, settings: Drawing, machine: Machine) -> Iterator[Opened]:
        with redrawing(settings, machine, CONTROLS, STRENGTH) as work:
            yield work
