"""The bundle as Flux draws it from noise, by the caption and the picture's Redux tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Drawing, drawing_models


class Redux(Method[Drawing]):
    """From noise, by the caption and the picture's Redux tokens."""

    stage, name, version = "bundle", "redux", 2
    settings = Drawing
    reads = ("prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)
    packages = PACKAGES

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return drawing_models(settings)

    @contextmanager
    def open(self, settings: Drawing, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.bundle.drawing import Studio

        with Studio(settings, machine) as studio:
            yield studio.draw
