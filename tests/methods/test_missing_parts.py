"""What a picture shows and a surface has lost is put in: thin parts, separate pieces, under another framing too."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from kiss3d_cli.evaluation.front_check import FrontCheck, check_front
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.missing import Fit, missing_parts
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.methods.refine.missing import with_missing_parts

SIDE, RADIUS = 192, 4.15
CAMERA = bundle_cameras(RADIUS)[[0]]
ROW, COLUMN = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
BODY = ((ROW - 110) / 50) ** 2 + ((COLUMN - 90) / 40) ** 2 < 1
STEM = ((COLUMN - 90).abs() < 1.5) & (ROW > 14) & (ROW < 70)
BALL = (ROW - 110) ** 2 + (COLUMN - 160) ** 2 < 14**2
COLORS = torch.where(
    STEM[..., None] & ~BODY[..., None], torch.tensor([0.1, 0.6, 0.2]), torch.tensor([0.7, 0.3, 0.2])
).float()


@cache
def body() -> Mesh:
    return inflate(BODY.float(), CAMERA).mesh


def check(mesh: Mesh, mask: torch.Tensor) -> FrontCheck:
    picture = (COLORS * 255).round().to(torch.uint8).numpy()
    return check_front(mesh, picture, mask.numpy(), CAMERA)


@pytest.mark.parametrize("part", [STEM, BALL], ids=["stem", "ball"])
def test_a_lost_part_is_put_in(part: torch.Tensor) -> None:
    mask = BODY | part
    before = check(body(), mask)
    assert before.lost_parts
    completed = with_missing_parts(body(), COLORS, mask.float(), RADIUS, 20_000)
    found = check(completed.mesh, mask)
    assert found.lost_parts == ()
    assert found.mask_iou > 0.98
    assert found.thin_kept in (None, 1.0)
    assert found.watertight
    assert found.faces <= 20_000
    assert found.pieces == 2
    assert len(completed.notes) == 1
    # as deep as wide, at the depth of the body
    new = completed.mesh.vertices[completed.own]
    new = new[new[:, 1] > 0.6] if part is STEM else new  # below it lies within the body
    size = new.amax(0) - new.amin(0)
    assert 0.5 * size[0] < size[2] < 1.5 * size[0]
    assert abs(float(new[:, 2].mean())) < 0.1


def test_a_part_has_the_colours_of_the_picture() -> None:
    completed = with_missing_parts(body(), COLORS, (BODY | STEM).float(), RADIUS, 20_000)
    assert completed.mesh.colors is not None
    upper = completed.own & (completed.mesh.vertices[:, 1] > 0.6)
    assert float((completed.mesh.colors[upper] - torch.tensor([0.1, 0.6, 0.2])).abs().max()) < 0.05


def test_the_surface_may_be_smaller_than_in_the_picture() -> None:
    """A network draws at a size of its own: the part has that of the surface."""
    small = body().with_vertices(body().vertices * 0.9 + torch.tensor([0.05, 0.0, 0.0]))
    mask = BODY | STEM
    completed = with_missing_parts(small, COLORS, mask.float(), RADIUS, 20_000)
    found = check(completed.mesh, mask)
    assert found.lost_parts == ()
    assert found.mask_iou > 0.97
    assert found.scale == pytest.approx(1 / 0.9, rel=0.02)


def test_a_stump_is_cut_off() -> None:
    """Of a stem that is there in parts nothing stays beside the whole one."""
    broken = STEM & ((ROW < 30) | (ROW > 50))
    mesh = inflate((BODY | broken).float(), CAMERA).mesh
    assert report(mesh.vertices.double().numpy(), mesh.faces.numpy()).components == 2
    completed = with_missing_parts(mesh, COLORS, (BODY | STEM).float(), RADIUS, 20_000)
    found = check(completed.mesh, BODY | STEM)
    assert found.pieces == 2
    assert found.watertight
    assert found.thin_kept == 1.0
    left = completed.mesh.vertices[~completed.own]
    assert float(left[:, 1].max()) < 0.6 * float(mesh.vertices[:, 1].max())


def test_a_complete_surface_stays() -> None:
    completed = with_missing_parts(body(), COLORS, BODY.float(), RADIUS, 20_000)
    assert completed.mesh is body()
    assert not completed.own.any()
    assert completed.notes == ()


def test_another_object_is_not_completed() -> None:
    """What the front shows beside the mask says that the picture is of something else, or of another pose."""
    other = inflate((BODY | BALL).float(), CAMERA).mesh
    completed = with_missing_parts(other, COLORS, (BODY | STEM).float(), RADIUS, 20_000)
    assert completed.mesh is other


def test_a_surface_that_is_smaller_all_around_has_lost_no_part() -> None:
    """One that no scale brings to the picture's outline: as high, but narrower by a quarter."""
    narrow = body().with_vertices(body().vertices * torch.tensor([0.75, 1.0, 1.0]))
    assert with_missing_parts(narrow, COLORS, BODY.float(), RADIUS, 20_000).mesh is narrow


def test_a_part_beyond_the_border_of_the_camera_is_left_out() -> None:
    mask = (BODY | STEM).float()
    found = missing_parts(body(), COLORS, mask, BODY.numpy(), CAMERA, Fit(1.0, np.array([0.0, -3.0])))
    assert found == []


def test_an_empty_picture_completes_nothing() -> None:
    assert with_missing_parts(body(), COLORS, torch.zeros(SIDE, SIDE), RADIUS, 20_000).mesh is body()


def test_it_is_the_same_on_any_number_of_threads() -> None:
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(with_missing_parts(body(), COLORS, (BODY | STEM).float(), RADIUS, 20_000).mesh)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0].vertices.numpy(), found[1].vertices.numpy())
    assert torch.equal(found[0].faces, found[1].faces)
