"""Pictures compared: closed forms and a plain loop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.evaluation.pictures import compare_renderings, peak_signal_to_noise, structural_similarity
from kiss3d_cli.geometry.mesh import Mesh


def ball(radius: float, color: float | None = None, shift: float = 0.0) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    vertices = torch.from_numpy(np.array(mesh.vertices)) + shift
    colors = None if color is None else torch.full_like(vertices, color)
    return Mesh(vertices, torch.from_numpy(np.array(mesh.faces, np.int64)), colors)


def test_a_mesh_against_itself() -> None:
    found = compare_renderings(ball(1, 0.3), ball(1, 0.3), size=128)
    assert (found.mask_iou, found.normal_error, found.ssim, found.psnr) == (1, 0, 1, None)
    assert found.reason == "the pictures are equal"
    assert [view.azimuth for view in found.views] == [0, 90, 180, 270, 45, 135, 225, 315]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (40.0, 500.0)])
def test_balls_of_two_sizes(scale: float, shift: float) -> None:
    found = compare_renderings(ball(0.7 * scale, 0.2, shift), ball(scale, 0.2, shift), size=256)
    # a ball of radius r at distance d appears as a disc of radius r / sqrt(d^2 - r^2)
    areas = [r**2 / (4.15**2 - r**2) for r in (0.7, 1.0)]
    assert found.mask_iou == pytest.approx(areas[0] / areas[1], rel=0.01)
    # of the picture, whose half side is tan(15 degrees), the ring differs by 0.8
    ring = np.pi * (areas[1] - areas[0]) / (4 * np.tan(np.radians(15)) ** 2)
    assert found.psnr == pytest.approx(-10 * np.log10(ring * 0.8**2), abs=0.1)
    assert found.reason is None
    assert 0 < found.ssim < 1


def test_normals_tell_a_turned_wall() -> None:
    def wall(degrees: float) -> Mesh:
        corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=torch.float64)
        angle = np.radians(degrees)
        turn = torch.tensor([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        return Mesh(corners @ turn.T, torch.tensor([[0, 1, 2], [0, 2, 3]]))

    found = compare_renderings(wall(20), wall(0), size=64)
    for view in found.views:
        if view.azimuth in (0.0, 180.0, 45.0):
            assert view.normal_error == pytest.approx(20, abs=1e-3)
    assert found.psnr is None
    assert found.reason == "the prediction and the ground truth have no vertex colours"


def test_psnr_agrees_with_opencv() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    assert peak_signal_to_noise(a / 255, b / 255) == pytest.approx(cv2.PSNR(a, b), rel=1e-9)


def test_ssim_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    a = generator.random((24, 20, 2))
    b = np.clip(a + 0.2 * generator.normal(size=a.shape), 0, 1)
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(2):
        for i in range(5, 19):
            for j in range(5, 15):
                x, y = (image[i - 5 : i + 6, j - 5 : j + 6, channel] for image in (a, b))
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                covariance = (window * (x - mx) * (y - my)).sum()
                above = (2 * mx * my + 0.01**2) * (2 * covariance + 0.03**2)
                values.append(above / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2)))
    assert structural_similarity(a, b) == pytest.approx(np.mean(values), rel=1e-9)
    assert structural_similarity(a, a) == pytest.approx(1)
