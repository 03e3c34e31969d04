"""Photos of several sides, each framed by itself, brought back to one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.photo_frames import Placement, place_photos
from kiss3d_cli.geometry.rasterize import rasterize

SIDE = 400
FRAMES = ((0.9, 0.0, -0.1), (0.6, 0.2, -0.1), (0.8, -0.1, 0.05), (0.7, 0.1, 0.1))
"""How each photo was framed: what is shown at p would be shown at a p + (b, c)."""


@pytest.fixture(scope="module")
def photos() -> list[torch.Tensor]:
    """A long animal: its head is high and near to the front camera, which so shows it higher than any other does.

    In the middle of all pictures, as the placed one will be: nearer to one camera it would be larger there alone.
    """
    parts = [((0.0, -0.3, -0.075), (0.3, 0.35, 0.875)), ((-0.1, 0.25, 0.7), (0.2, 0.35, 0.25))]
    balls = [trimesh.creation.icosphere(4) for _ in parts]
    placed = [ball.vertices * radii + center for ball, (center, radii) in zip(balls, parts, strict=True)]
    points = np.concatenate(placed)
    faces = np.concatenate([balls[0].faces, balls[1].faces + len(balls[0].vertices)])
    clip = bundle_cameras().clip(torch.tensor(points, dtype=torch.float32))
    photos = []
    for view, (scale, x, y) in enumerate(FRAMES):
        framed = clip[view].clone()
        framed[:, :2] = scale * framed[:, :2] + torch.tensor([x, y]) * framed[:, 3:]
        photos.append(rasterize(framed[None], torch.tensor(faces), (SIDE, SIDE)).mask[0])
    return photos


def undone(placements: list[Placement], views: list[int]) -> np.ndarray:
    """(V, 3) Scale, column and row at which each photo's own middle before it was framed is shown now."""
    frames = [FRAMES[view] for view in views]
    return np.array(
        [
            (place.scale * scale, place.scale * x + place.shift[0], place.scale * y + place.shift[1])
            for place, (scale, x, y) in zip(placements, frames, strict=True)
        ]
    )


@pytest.mark.parametrize("views", [[0, 1], [0, 3], [0, 1, 2], [0, 1, 3], [0, 1, 2, 3]])
def test_all_photos_come_to_one_scale(photos, views):
    found = undone(place_photos([photos[view] for view in views], bundle_cameras()[views], 0.85), views)
    assert np.ptp(found[:, 0]) < 0.01 * found[:, 0].mean()
    assert np.ptp(found[:, 2]) < 0.01
    height = np.ptp(np.flatnonzero(photos[0].any(1))) / SIDE * found[0, 0] / FRAMES[0][0]
    width = max(
        np.ptp(np.flatnonzero(photos[view].any(0))) / SIDE * found[row, 0] / FRAMES[view][0]
        for row, view in enumerate(views)
    )
    assert max(height, width) == pytest.approx(0.85, abs=0.03), "the largest extent of any picture"


def test_the_front_and_the_back_alone_get_one_height(photos):
    placed = place_photos([photos[0], photos[2]], bundle_cameras()[[0, 2]], 0.85)
    heights = [
        place.scale * (np.ptp(np.flatnonzero(photo.any(1))) + 1)
        for place, photo in zip(placed, (photos[0], photos[2]), strict=True)
    ]
    assert heights[0] == pytest.approx(heights[1], rel=1e-4)


def test_an_empty_photo_is_refused(photos):
    with pytest.raises(BadInput, match="no object"):
        place_photos([photos[0], torch.zeros_like(photos[1])], bundle_cameras()[[0, 1]], 0.85)
