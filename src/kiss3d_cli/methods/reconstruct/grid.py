"""What every way of reconstructing shares."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from kiss3d_cli.methods.base import Settings


class Grid(Settings):
    section: ClassVar[str] = "reconstruct"

    resolution: int = Field(128, ge=32, le=256)
    """Resolution of the grid from which the surface is extracted, in cells per side."""
