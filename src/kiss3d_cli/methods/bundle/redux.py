"""The bundle as Flux draws it from the caption and the picture's Redux tokens, without views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.bundle.flux_settings import Drawing
from kiss3d_cli.methods.bundle.prompted import Prompted

if TYPE_CHECKING:
    from kiss3d_cli.methods.bundle.drawing import Picture


class Redux(Prompted):
    """As published: image to image on a template, the bundle given with `--template`, or on black where none is given.

    With `bundle.strength=1` it starts from noise alone.
    """

    name, version = "redux", 3
    takes = ("template",)
    help = "generates it from caption and picture over `--template`"

    def share(self, settings: Drawing) -> float:
        return settings.strength

    def start(self, settings: Drawing, context: Context) -> Picture | None:
        import numpy as np

        from kiss3d_cli.image.bundle import join_bundle, load_bundle
        from kiss3d_cli.image.conditions import fit_bundle

        if settings.strength == 1:
            return None
        if "template" not in context.inputs:
            return np.zeros((2 * settings.tile, 4 * settings.tile, 3), np.uint8)
        return fit_bundle(join_bundle(load_bundle(context.inputs["template"])), settings.tile)
