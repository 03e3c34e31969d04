"""What every way of cutting the object out ends with."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kiss3d_cli.methods.base import Settings

WRITES = ("image.png", "image_rgba.png", "mask.png")
WINDOW = "window.json"
"""What part of the picture is framed."""
SIDES = ("right", "back", "left")
"""The other sides of the object that pictures may be given of; each is cut out and framed by itself."""
TAKES = ("mask", *SIDES)
WRITES_FOR = {side: tuple(f"{side}_{name}" for name in WRITES) for side in SIDES}


class Framed(Settings):
    size: int = Field(512, ge=64, le=2048)
    """Side length of the framed picture, in pixels."""
    foreground: float = Field(0.85, ge=0.1, le=1)
    """Longer side of the object relative to the framed picture."""
    keep: Literal["auto", "all", "largest"] = "auto"
    """Keep `all` objects or only the `largest`; `auto` keeps all unless GrabCut does the segmentation."""
    contours: Literal["auto", "fill", "keep"] = "auto"
    """`fill` closed contours on a plain background, or `keep` the strokes; `auto` fills those of line drawings."""
    crop: bool = True
    """Crop and centre the object; if off, the whole picture is used, as published, and small objects stay small."""
