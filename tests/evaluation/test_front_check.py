import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.evaluation.front_check import check_front, lost_parts
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.geometry.silhouette import pieces_of, thin_parts
from kiss3d_cli.geometry.texture.texture import Texture

SIZE = 128
FRONT = bundle_cameras()[[0]]


def colored(mesh):
    return mesh.with_colors((mesh.vertices / 2 + 0.5).clamp(0, 1))


def picture_of(mesh):
    shown = render_colors(mesh, FRONT, (SIZE, SIZE), antialiased=False)
    return (shown.colors[0] * 255).round().byte().numpy(), shown.fragments.mask[0].numpy()


def ball():
    sphere = trimesh.creation.icosphere(4)
    vertices = torch.from_numpy(np.asarray(sphere.vertices) * [0.5, 0.7, 0.4] + [0.1, 0.05, 0]).float()
    return colored(Mesh(vertices, torch.from_numpy(np.asarray(sphere.faces, np.int64))))


def test_a_mesh_agrees_with_its_own_picture():
    mesh = ball()
    found = check_front(mesh, *picture_of(mesh), FRONT)
    assert found.mask_iou == 1
    assert found.color_psnr > 50
    assert (found.pieces, found.mask_pieces) == (1, 1)
    assert found.watertight
    assert found.self_intersections == 0
    assert found.ragged_edges == 0
    assert found.thin_kept is None
    assert found.scale == 1
    assert found.faces == len(mesh.faces)


def test_a_mesh_at_another_size_and_place_is_brought_onto_the_picture():
    mesh = ball()
    picture, mask = picture_of(mesh)
    small = mesh.with_vertices(0.6 * mesh.vertices + torch.tensor([0.2, -0.1, 0.0]))
    found = check_front(small, picture, mask, FRONT)
    assert found.mask_iou > 0.97
    assert found.color_psnr > 28
    assert found.scale == pytest.approx(1 / 0.6, rel=0.03)


def test_what_the_mesh_does_not_show_counts():
    mesh = ball()
    picture, mask = picture_of(mesh)
    right = mask & (np.arange(SIZE) >= SIZE // 2)
    whole = check_front(mesh, picture, right, FRONT)
    assert whole.mask_iou == pytest.approx(right.sum() / mask.sum(), abs=0.15)
    half = Mesh(mesh.vertices, mesh.faces[mesh.vertices[mesh.faces][:, :, 0].mean(1) > 0], mesh.colors)
    found = check_front(half, picture, mask, FRONT)
    assert not found.watertight
    assert found.mask_iou < 0.8
    assert found.color_psnr < 15  # white where there is nothing


def test_a_texture_is_used_where_there_is_one():
    mesh = ball()
    picture, mask = picture_of(mesh)
    grey = Texture(torch.full((3, 2), 0.5), torch.zeros_like(mesh.faces), torch.full((4, 4, 3), 90, dtype=torch.uint8))
    shown = check_front(mesh.with_colors(None), picture, mask, FRONT, grey)
    error = ((picture / 255.0 - 90 / 255) ** 2)[mask].mean()
    assert shown.color_psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert check_front(mesh.with_colors(None), picture, mask, FRONT).color_psnr is None


def test_thin_parts_are_strings_and_not_corners():
    mask = np.zeros((512, 512), bool)
    mask[100:300, 100:300] = True  # a square has corners
    assert not thin_parts(mask).any()
    string = np.zeros_like(mask)
    string[300:400, 198:201] = True
    found = thin_parts(mask | string)
    assert (found & string).sum() > 0.95 * string.sum()
    assert not (found & ~string)[:290].any()


def test_a_lost_string_is_told():
    mesh = ball()
    picture, mask = picture_of(mesh)
    rows = np.flatnonzero(mask.any(1))
    below = slice(rows[-1] + 1, min(SIZE, rows[-1] + 13))
    with_string = mask.copy()
    with_string[below, 66:68] = True
    found = check_front(mesh, picture, with_string, FRONT)
    assert found.thin_kept == pytest.approx(0, abs=0.2)  # a pixel beside the body counts as shown


def test_pieces_of_a_mask_leave_out_specks():
    mask = np.zeros((64, 64), bool)
    mask[5:20, 5:20] = mask[30:33, 40:50] = mask[60, 60] = True
    mask[50, 10:30] = True  # one pixel wide
    assert pieces_of(mask) == [225, 30]


def test_nothing_to_compare_is_an_error():
    mesh = ball()
    picture, mask = picture_of(mesh)
    with pytest.raises(BadInput, match="mask is empty"):
        check_front(mesh, picture, np.zeros_like(mask), FRONT)
    with pytest.raises(BadInput, match="no faces"):
        check_front(Mesh(mesh.vertices, mesh.faces[:0]), picture, mask, FRONT)


def test_a_part_that_the_front_does_not_show_is_told_with_its_place():
    mask = np.zeros((256, 256), bool)
    mask[80:200, 80:200] = True
    shown = mask.copy()
    mask[20:80, 100:102] = True  # a mast of two pixels
    mask[120:124, 200:250] = True  # an arm
    assert lost_parts(mask, mask) == ()
    assert lost_parts(mask, shown) == ("right", "upper")
    assert lost_parts(mask, shown | (np.arange(256)[:, None] < 80) & mask) == ("right",)


def test_neither_a_shifted_outline_nor_a_hair_is_a_lost_part():
    mask = np.zeros((256, 256), bool)
    mask[60:200, 60:200] = True
    assert lost_parts(mask, np.roll(mask, 3, 1)) == ()
    hair = mask.copy()
    hair[10:60, 100] = True
    assert lost_parts(hair, mask) == ()


def test_nothing_shown_is_all_lost():
    mask = np.zeros((128, 128), bool)
    mask[50:80, 50:80] = True
    assert lost_parts(mask, np.zeros_like(mask)) == ("in the middle",)
