"""What every way of making views shares."""

from __future__ import annotations

from pydantic import Field

from kiss3d_cli.methods.base import Settings
from kiss3d_cli.methods.shared import VIEW_FILES

WRITES = ("grid.png", *VIEW_FILES)
SIDES_TAKEN = tuple(f"sides/{name.removesuffix('.png')}_rgba.png" for name in VIEW_FILES)
"""The pictures that were given of the four views, where more than the front's was."""


class Tiles(Settings):
    tile: int = Field(512, ge=64, le=1024)
    """Side length of one view, in pixels; a multiple of 32 for Zero123++."""


class OwnWeights(Settings):
    weights: str | None = None
    """Weights file that you trained, for `prior` or `lvsm`; empty means the packaged one, which `prior` has."""
