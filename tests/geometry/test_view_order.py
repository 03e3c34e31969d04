"""Right and left exchanged, told by what neighbouring views see of one surface; ellipsoids in closed form."""

from __future__ import annotations

import pytest
import torch

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.view_order import SWAPPED, order_agreement

LEANING = [
    Ellipsoid((0.1, -0.3, 0.0), (0.5, 0.5, 0.3)),
    Ellipsoid((-0.1, 0.3, 0.35), (0.3, 0.35, 0.45)),
    Ellipsoid((0.4, -0.3, -0.4), (0.15, 0.2, 0.4)),
]


def test_the_right_order_agrees_better_and_an_exchange_is_seen() -> None:
    views = cast(LEANING, 128)
    right = order_agreement(views.normals, views.mask, bundle_cameras())
    wrong = order_agreement(views.normals[list(SWAPPED)], views.mask[list(SWAPPED)], bundle_cameras())
    assert not right.is_swapped
    assert wrong.is_swapped
    assert right.given == pytest.approx(wrong.swapped, abs=1e-6)
    assert right.given is not None
    assert right.given > 0.5


def test_a_ball_looks_the_same_either_way() -> None:
    views = cast([Ellipsoid((0, 0, 0), (0.8, 0.8, 0.8))], 128)
    found = order_agreement(views.normals, views.mask, bundle_cameras())
    assert not found.is_swapped
    assert found.given == pytest.approx(found.swapped, abs=1e-3)


def test_views_without_a_common_volume_have_no_agreement() -> None:
    views = cast([Ellipsoid((0, 0.5, 0), (0.2, 0.2, 0.2))], 64)
    mask = views.mask.clone()
    mask[1] = mask[1].flip(0)
    found = order_agreement(views.normals, mask, bundle_cameras())
    assert found.given is None
    assert not torch.isnan(views.normals).any()
    assert not found.is_swapped
