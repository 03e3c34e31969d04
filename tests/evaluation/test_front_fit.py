"""The front check brings a mesh of another size and place back to its picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiss3d_cli.evaluation.front_check import check_front
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize

SIZE = 256


def chair_like() -> Mesh:
    """Thin bars in the plane z = 0, without any symmetry: a small misfit costs much of the overlap."""
    bars = [(-0.7, -0.8, -0.62, 0.9), (-0.7, 0.0, 0.6, 0.08), (0.52, -0.8, 0.6, 0.3), (-0.2, -0.6, -0.14, 0.0)]
    points, faces = [], []
    for low_x, low_y, high_x, high_y in bars:
        start = len(points)
        points += [(low_x, low_y, 0), (high_x, low_y, 0), (high_x, high_y, 0), (low_x, high_y, 0)]
        faces += [(start, start + 1, start + 2), (start, start + 2, start + 3)]
    return Mesh(torch.tensor(points).float(), torch.tensor(faces))


@pytest.mark.parametrize(("scale", "shift"), [(0.985, (0.0, 0.0)), (1.013, (0.011, -0.006)), (0.93, (-0.03, 0.05))])
def test_scale_and_place_are_found_to_a_fraction_of_a_pixel(scale: float, shift: tuple[float, float]) -> None:
    mesh, camera = chair_like(), bundle_cameras()[[0]]
    projection = camera.projection.clone()
    projection[:, :2] /= scale
    projection[:, :2, 2] -= torch.tensor(shift)
    shown = rasterize(Cameras(camera.world_to_camera, projection).clip(mesh.vertices), mesh.faces, (SIZE, SIZE))
    mask = shown.mask[0].numpy()
    found = check_front(mesh, np.full((SIZE, SIZE, 3), 255, np.uint8), mask, camera)
    assert found.mask_iou > 0.985
    assert found.scale == pytest.approx(1 / scale, abs=2e-3)
