"""The bundle as Flux draws it from the caption and the picture's Redux tokens, without views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Context, Machine, Method, Opened
from kiss3d_cli.methods.bundle.flux_settings import PACKAGES, Drawing, drawing_cost, drawing_models
from kiss3d_cli.methods.cost import Cost, Surroundings


class Redux(Method[Drawing]):
    """As published: image to image on a template, the bundle given with `--template`, or on black where none is given.

    With `bundle.strength=1` it starts from noise alone.
    """

    stage, name, version = "bundle", "redux", 3
    settings = Drawing
    reads = ("prompt/prompt.safetensors", "prompt/redux.safetensors")
    takes = ("template",)
    writes = ("bundle.png",)
    packages = PACKAGES

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return drawing_models(settings)

    def cost(self, settings: Drawing, around: Surroundings) -> Cost:
        return drawing_cost(settings, around, settings.strength)

    @contextmanager
    def open(self, settings: Drawing, machine: Machine) -> Iterator[Opened]:
        import numpy as np

        from kiss3d_cli.image.bundle import join_bundle, load_bundle
        from kiss3d_cli.image.conditions import fit_bundle
        from kiss3d_cli.methods.bundle.drawing import Studio

        with Studio(settings, machine, settings.strength) as studio:

            def work(context: Context) -> None:
                template = context.inputs.get("template")
                start = np.zeros((2 * settings.tile, 4 * settings.tile, 3), np.uint8)
                if template is not None:
                    start = fit_bundle(join_bundle(load_bundle(template)), settings.tile)
                studio.draw(context, start if settings.strength < 1 else None)

            yield work
