from __future__ import annotations

import math

import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from kiss3d_cli.geometry.cameras import View, bundle_cameras, orbit_cameras


def test_bundle_cameras_match_the_published_matrices(parity_dir):
    published = load_file(parity_dir / "cameras.safetensors")
    cameras = bundle_cameras()
    assert_close(cameras.world_to_camera, published["isomer.mv"], atol=1e-6, rtol=0)
    flip_y = torch.diag(torch.tensor([1.0, -1, 1, 1]))  # the published projection has its origin at the top left
    assert_close(flip_y @ cameras.projection[0], published["isomer.proj"], atol=1e-4, rtol=1e-6)


def test_local_normals_turn_into_the_published_world_normals(parity_dir):
    published = load_file(parity_dir / "cameras.safetensors")
    local = published["normals.local_probe"]
    mirrored = local * torch.tensor([-1.0, 1, 1])  # the probe is in the bundle's encoding, x mirrored
    assert_close(bundle_cameras().normals_to_world(mirrored), published["normals.global"], atol=1e-5, rtol=0)


def test_the_view_named_right_sees_the_plus_x_side():
    center = bundle_cameras(radius=2.0).centers[View.RIGHT]
    e = math.radians(5)
    assert_close(center, torch.tensor([2 * math.cos(e), 2 * math.sin(e), 0.0]), atol=1e-6, rtol=0)


def test_points_land_where_a_pinhole_puts_them():
    cameras = orbit_cameras([0.0], 0.0, radius=4.0)
    clip = cameras.clip(torch.tensor([[0.5, -0.25, 1.0]]))[0, 0]
    tangent = math.tan(math.radians(15))
    assert_close(clip[:2] / clip[3], torch.tensor([0.5 / 3 / tangent, -0.25 / 3 / tangent]))
    assert_close(clip[3], torch.tensor(3.0))
