"""Whether a start shows the views already."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.refine.agreement import DEGREES, shows_already
from kiss3d_cli.geometry.render import render_normals

SIZE = 128
CAMERAS = bundle_cameras()


def egg() -> Mesh:
    ball = trimesh.creation.icosphere(4)
    vertices = np.asarray(ball.vertices) * [0.4, 0.6, 0.5] + [0.1, 0.05, -0.05]
    return Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(np.asarray(ball.faces, np.int64)))


@pytest.fixture(scope="module")
def views() -> tuple[torch.Tensor, torch.Tensor]:
    shown = render_normals(egg(), CAMERAS, (SIZE, SIZE), antialiased=False)
    return shown.normals, shown.mask.bool()


def test_a_mesh_shows_its_own_views(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert shows_already(egg(), *views, CAMERAS)
    normals = torch.nn.functional.normalize((views[0] * 127).round(), dim=-1)  # as 8 bits hold them
    assert shows_already(egg(), normals, views[1], CAMERAS)


def test_masks_drawn_a_pixel_wider_are_the_same(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    wide = torch.nn.functional.max_pool2d(views[1][:, None].float(), 3, 1, 1)[:, 0] > 0
    assert shows_already(egg(), views[0], wide, CAMERAS)


@pytest.mark.parametrize("factor", [0.93, 1.07])
def test_another_size_is_another_object(views: tuple[torch.Tensor, torch.Tensor], factor: float) -> None:
    mesh = egg()
    assert not shows_already(mesh.with_vertices(mesh.vertices * factor), *views, CAMERAS)


def test_one_view_that_differs_is_enough(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask = views[1].clone()
    mask[2, SIZE // 2 :] = False
    assert not shows_already(egg(), views[0], mask, CAMERAS)


def test_other_normals_are_another_surface(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    for degrees, same in ((DEGREES / 2, True), (2 * DEGREES, False)):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        turned = views[0] @ turn  # about the line of sight: every normal moves by at most so much
        tilt = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        assert shows_already(egg(), turned @ tilt, views[1], CAMERAS) == same


def test_nothing_to_see_is_no_agreement(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert not shows_already(egg(), views[0], torch.zeros_like(views[1]), CAMERAS)
