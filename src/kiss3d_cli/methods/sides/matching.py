"""Cut-out pictures of several sides, placed, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import Cameras
from kiss3d_cli.geometry.extract.carve import CONTRADICTION, is_across, outside_share
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.extract.photo_frames import Placement, place_photos
from kiss3d_cli.geometry.inflate.inflate import overhang
from kiss3d_cli.image.framing import frame_window

GRID = 96
"""Points along a side of the hull by which pictures are compared."""
_ROUNDS = 4


@dataclass(frozen=True)
class Matched:
    """
    Attributes:
        pictures: as their cameras show them, colour not multiplied by alpha.
        placements: of each.
        outside: the share of each silhouette that the visual hull of all does not fill.
    """

    pictures: list[UInt8[np.ndarray, "S S 4"]]
    placements: list[Placement]
    outside: list[float]


def match(pictures: Sequence[UInt8[np.ndarray, "S S 4"]], cameras: Cameras, every: Cameras, extent: float) -> Matched:
    """Bring pictures into one frame.

    Args:
        pictures: cut out and framed, each by itself; the first is the front.
        cameras: of these pictures.
        every: cameras whose views must hold the whole object.
        extent: of the object in the largest picture, in half sides.

    Raises:
        BadInput: the silhouettes have nothing in common.
    """
    masks = [torch.from_numpy(picture[..., 3] > 127) for picture in pictures]
    for _ in range(_ROUNDS):
        placements = place_photos(masks, cameras, extent)
        placed = [
            frame_window(picture[..., :3], picture[..., 3], place.window(len(picture)), size=len(pictures[0])).rgba
            for picture, place in zip(pictures, placements, strict=True)
        ]
        shown = torch.from_numpy(np.stack([each[..., 3] for each in placed])).float() / 255
        try:
            hull = visual_hull(shown, cameras, GRID)
        except BadInput as error:
            raise BadInput(error.cause, hint=CONTRADICTION) from error
        # nearer to a camera that took no picture, a part is larger there than in any picture
        too_large = overhang(hull, every) if any(is_across(cameras)) else 1.0
        if too_large <= 1:
            break
        extent = round(extent / too_large, 6)
    return Matched(placed, placements, outside_share(hull, shown, cameras))
