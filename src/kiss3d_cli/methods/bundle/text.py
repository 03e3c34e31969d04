"""The bundle as Flux generates it from text alone."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.bundle.flux_settings import FROM_A_PICTURE, Drawing
from kiss3d_cli.methods.bundle.prompted import Prompted


class Text(Prompted):
    """As published for text to 3D: from noise, with `rgb_normal.safetensors`, without a ControlNet.

    The whole schedule is run, whatever `bundle.strength` says.
    """

    name, version = "text", 1
    help = "generates it from text"
    preset = ("12gb", "from words there is no way without Flux")
    alternative = FROM_A_PICTURE

    def share(self, settings: Drawing) -> float:
        return 1.0

    def start(self, settings: Drawing, context: Context) -> None:
        return None
