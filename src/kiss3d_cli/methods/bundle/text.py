"""The bundle as Flux draws it from words alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Drawing, drawing_cost, drawing_models
from kiss3d_cli.methods.cost import Cost, Surroundings


class Text(Method[Drawing]):
    """As published for text to 3D: from noise, with `rgb_normal.safetensors`, without a ControlNet.

    The whole schedule is run, whatever `bundle.strength` says.
    """

    stage, name, version = "bundle", "text", 1
    settings = Drawing
    reads = ("prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)
    packages = PACKAGES

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return drawing_models(settings)

    def cost(self, settings: Drawing, around: Surroundings) -> Cost:
        return drawing_cost(settings, around, 1.0)

    @contextmanager
    def open(self, settings: Drawing, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.bundle.drawing import Studio

        with Studio(settings, machine, 1.0) as studio:
            yield studio.draw
