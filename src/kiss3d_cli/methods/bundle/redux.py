"""The bundle as Flux draws it from noise, by the caption and the picture's Redux tokens."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Drawing, drawing_models


class Redux(Weightless[Drawing]):
    """From noise, by the caption and the picture's Redux tokens."""

    stage, name, version = "bundle", "redux", 2
    settings = Drawing
    reads = ("prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)
    packages = PACKAGES

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return drawing_models(settings)

    def work(self, settings: Drawing, machine: Machine, context: Context) -> None:
        from kiss3d_cli.methods.bundle.drawing import draw_from_noise

        draw_from_noise(settings, machine, context)
