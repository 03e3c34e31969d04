"""The sign of a bundle's normals, told by its outlines: on ellipsoids in closed form, and on a cube that has no say."""

from __future__ import annotations

import pytest
import torch

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.image.conventions import SIGNS, outline_agreement, with_convention

LOPSIDED = [
    Ellipsoid((0.1, -0.2, 0.0), (0.4, 0.6, 0.3)),
    Ellipsoid((-0.3, 0.45, 0.2), (0.3, 0.2, 0.35)),
    Ellipsoid((0.5, 0.1, -0.2), (0.2, 0.15, 0.25)),
]


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("convention", list(SIGNS))
def test_each_convention_is_told_and_undone(convention: str, size: int) -> None:
    views = cast(LOPSIDED, size)
    given = with_convention(views.normals, convention)
    found = outline_agreement(given, views.mask)
    assert found.convention == (None if convention == "kiss3d" else convention)
    assert min(abs(found.x), abs(found.y)) > 0.5
    torch.testing.assert_close(with_convention(given, convention), views.normals)


def test_a_cube_that_faces_the_camera_and_noise_say_nothing() -> None:
    mask = torch.zeros(4, 64, 64, dtype=torch.bool)
    mask[:, 16:48, 16:48] = True
    facing = torch.zeros(4, 64, 64, 3)
    facing[..., 2] = 1
    assert outline_agreement(facing, mask).convention is None
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.normalize(torch.randn(4, 64, 64, 3, generator=generator), dim=-1)
    assert outline_agreement(noise, mask).convention is None


def test_an_object_that_fills_the_picture_has_no_outline() -> None:
    mask = torch.ones(4, 64, 64, dtype=torch.bool)
    normals = torch.nn.functional.normalize(torch.ones(4, 64, 64, 3), dim=-1)
    assert outline_agreement(normals, mask).convention is None
