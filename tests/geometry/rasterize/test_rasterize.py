"""The rasteriser against drawn pictures, a reference that asks every face at every pixel, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.extract.hull import grid_points
from kiss3d_cli.geometry.rasterize import Fragments, chunks, interpolate, rasterize


def on_screen(points: list[tuple[float, float, float]], size: tuple[int, int]) -> Tensor:
    """(1, N, 4) clip-space vertices at the pixel coordinates (x, y), y down, at the depth w."""
    height, width = size
    rows = [((2 * x / width - 1) * w, (1 - 2 * y / height) * w, 0.0, w) for x, y, w in points]
    return torch.tensor([rows], dtype=torch.float64)


def everywhere(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Face and depth at every pixel of one view (all vertices in front), by solving for barycentrics in float64."""
    height, width = size
    xyw = clip[0][:, [0, 1, 3]].double().numpy()
    best, face_at = np.full(size, np.inf), np.full(size, -1)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width * 2 - 1, 1 - (np.arange(height) + 0.5) / height * 2)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    for number, face in enumerate(faces.tolist()):
        corners = xyw[face].T
        if abs(np.linalg.det(corners)) < 1e-12:
            continue
        b = rays @ np.linalg.inv(corners).T
        depth = 1 / b.sum(-1)
        hit = (b > 0).all(-1) & (depth < best)
        best[hit], face_at[hit] = depth[hit], number
    return face_at, best


def test_drawn_triangle_follows_the_top_left_rule() -> None:
    # Edges run exactly through pixel centres: the left and the top one are in, the right and the bottom one are not.
    size = (4, 5)
    clip = on_screen([(0.5, 0.5, 2), (3.5, 0.5, 2), (0.5, 3.5, 2)], size)
    expected = torch.tensor([[0, 0, 0, -1, -1], [0, 0, -1, -1, -1], [0, -1, -1, -1, -1], [-1, -1, -1, -1, -1]])
    for winding in ([0, 1, 2], [0, 2, 1], [1, 2, 0]):
        fragments = rasterize(clip, torch.tensor([winding]), size)
        assert torch.equal(fragments.face_id[0], expected)
    fragments = rasterize(clip, torch.tensor([[0, 1, 2]]), size)
    third = 1 / 3
    weights = torch.zeros(4, 5, 3, dtype=torch.float64)
    weights[0, :3] = torch.tensor([[1, 0, 0], [2 * third, third, 0], [third, 2 * third, 0]])
    weights[1, :2] = torch.tensor([[2 * third, 0, third], [third, third, third]])
    weights[2, 0] = torch.tensor([third, 0, 2 * third])
    torch.testing.assert_close(fragments.barycentric[0], weights, atol=1e-7, rtol=0)
    torch.testing.assert_close(fragments.depth[0], 2.0 * (expected >= 0).double())


def test_a_square_of_two_triangles_is_filled_once_without_gap() -> None:
    size = (6, 6)
    clip = on_screen([(1, 1, 1), (5, 1, 1), (5, 5, 1), (1, 5, 1)], size)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    first = rasterize(clip, faces[:1], size).mask
    second = rasterize(clip, faces[1:], size).mask
    assert not bool((first & second).any())
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:5, 1:5] = True
    assert torch.equal((first | second)[0], expected)


def test_barycentrics_are_perspective_correct() -> None:
    # Halfway on the screen between depth 1 and depth 3, the point in space is a quarter of the way.
    size = (1, 1)
    clip = on_screen([(0.0, 0.5, 1.0), (1.0, 0.5, 3.0), (0.5, -5.0, 1.5), (0.5, 5.0, 1.5)], size)
    fragments = rasterize(clip, torch.tensor([[0, 1, 2], [1, 0, 3]]), size)
    value = interpolate(
        torch.tensor([[0.0], [1.0], [0.0], [0.0]], dtype=torch.float64), torch.tensor([[0, 1, 2], [1, 0, 3]]), fragments
    )
    assert value.item() == pytest.approx(0.25)
    assert fragments.depth.item() == pytest.approx(1.5)


def soup(seed: int, count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(3 * count, 3, generator=generator, dtype=torch.float64)
    rows = [(float(x) * 50 - 10, float(y) * 40 - 6, 1 + 2 * float(w)) for x, y, w in points]
    return on_screen(rows, (28, 31)), torch.arange(3 * count).reshape(count, 3)


@pytest.mark.parametrize("seed", [0, 1])
def test_overlapping_triangles_agree_with_asking_every_face(seed: int) -> None:
    clip, faces = soup(seed)
    fragments = rasterize(clip, faces, (28, 31))
    face_at, depth = everywhere(clip, faces, (28, 31))
    assert len(np.unique(face_at)) > 15
    np.testing.assert_array_equal(fragments.face_id[0].numpy(), face_at)
    np.testing.assert_allclose(fragments.depth[0].numpy()[face_at >= 0], depth[face_at >= 0], rtol=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, faces = soup(2)
    whole = rasterize(clip, faces, (28, 31))
    monkeypatch.setattr(chunks, "CPU_CHUNK", 7)
    pieces = rasterize(clip, faces, (28, 31))
    assert torch.equal(whole.face_id, pieces.face_id)
    assert torch.equal(whole.barycentric, pieces.barycentric)


def test_equal_depth_goes_to_the_lower_face_in_any_order() -> None:
    clip = on_screen([(3, 2, 1), (25, 7, 2), (9, 24, 1.5)], (28, 31))
    twice = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0]])
    assert set(rasterize(clip, twice, (28, 31)).face_id.unique().tolist()) == {-1, 0}


def ellipsoid() -> tuple[Tensor, Tensor]:
    """A bumpy closed surface without symmetry, 2562 vertices: (N, 3) float32 and (F, 3)."""
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=4)
    points = torch.tensor(ball.vertices, dtype=torch.float32)
    bump = 1 + 0.15 * torch.sin(3 * points[:, :1] + 1) * torch.cos(2 * points[:, 1:2])
    return points * bump * torch.tensor([0.9, 0.7, 0.5]), torch.tensor(ball.faces, dtype=torch.int64)


def test_views_do_not_mix_and_a_closed_surface_shows_its_outside() -> None:
    vertices, faces = ellipsoid()
    clip = bundle_cameras().clip(vertices)
    together = rasterize(clip, faces, (40, 56))
    for view in range(4):
        alone = rasterize(clip[view : view + 1], faces, (40, 56))
        assert torch.equal(alone.face_id[0], together.face_id[view])
        assert torch.equal(alone.barycentric[0], together.barycentric[view])
    positions = interpolate(vertices, faces, together)
    for view, center in enumerate(bundle_cameras().centers):
        seen = together.face_id[view][together.mask[view]]
        a, b, c = vertices[faces[seen]].unbind(1)
        towards = (torch.linalg.cross(b - a, c - a, dim=-1) * (center - a)).sum(-1)
        assert bool((towards > 0).all())
        axis = -bundle_cameras().rotation[view, 2]
        distance = (positions[view][together.mask[view]] - center) @ axis
        torch.testing.assert_close(together.depth[view][together.mask[view]], distance, atol=1e-5, rtol=0)


@pytest.mark.parametrize("near", [0.5, 1.5])
def test_a_face_through_the_near_plane_is_cut_there(near: float) -> None:
    # A floor at y = -1 under a camera that looks along -z: it runs from behind the camera to far in front. Row by row,
    # the ray meets it at the distance 1 / slope, or not at all above the horizon.
    size = (64, 64)
    corners = torch.tensor([[-9.1, -1, 5], [9.1, -1, 5], [9.1, -1, -50], [-9.1, -1, -50]], dtype=torch.float64)
    projection = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -2 * near], [0, 0, -1, 0]], dtype=torch.float64)
    clip = (torch.cat([corners, torch.ones(4, 1, dtype=torch.float64)], 1) @ projection.T)[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(clip, faces, size)
    slope = (torch.arange(64, dtype=torch.float64) + 0.5) / 32 - 1
    distance = torch.where((slope > 0.02) & (slope < 1 / near), 1 / slope, 0)[:, None].expand(64, 64)
    across = ((torch.arange(64, dtype=torch.float64) + 0.5) / 32 - 1)[None] * distance
    there = (distance > 0) & (across.abs() < 9.1)
    assert int(there.sum()) > 800
    assert torch.equal(fragments.mask[0], there)
    torch.testing.assert_close(fragments.depth[0], torch.where(there, distance, 0), rtol=1e-6, atol=0)
    position = interpolate(corners, faces, fragments)[0]
    torch.testing.assert_close(position[..., 0], torch.where(there, across, 0), rtol=1e-6, atol=1e-9)


def test_nothing_behind_the_camera_is_drawn() -> None:
    clip = -on_screen([(0, 0, 1), (9, 0, 1), (0, 9, 1)], (8, 8))
    assert not bool(rasterize(clip, torch.tensor([[0, 1, 2]]), (8, 8)).mask.any())


def test_faces_without_area_and_no_faces_leave_the_image_empty() -> None:
    clip = on_screen([(1, 1, 1), (6, 6, 1), (3, 3, 1)], (8, 8))
    for faces in (torch.tensor([[0, 1, 2], [0, 0, 1], [2, 2, 2]]), torch.zeros(0, 3, dtype=torch.int64)):
        fragments = rasterize(clip, faces, (8, 8))
        assert not bool(fragments.mask.any())
        assert not bool(fragments.barycentric.any() | fragments.depth.any())


@pytest.mark.parametrize(
    ("clip", "faces", "size"),
    [
        (torch.full((1, 3, 4), torch.nan), torch.tensor([[0, 1, 2]]), (4, 4)),
        (torch.ones(1, 3, 4), torch.tensor([[0, 1, 3]]), (4, 4)),
        (torch.ones(1, 3, 4), torch.tensor([[0, 1, -1]]), (4, 4)),
        (torch.ones(1, 3, 4), torch.tensor([[0, 1, 2]]), (0, 4)),
    ],
)
def test_bad_input_is_refused(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> None:
    with pytest.raises(BadInput):
        rasterize(clip, faces, size)


def test_gradients_agree_with_finite_differences() -> None:
    clip, faces = soup(4, 12)
    clip = clip.requires_grad_()
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(36, 2, generator=generator, dtype=torch.float64).requires_grad_()
    pull = torch.randn(1, 28, 31, 2, generator=generator, dtype=torch.float64)

    def loss(clip: Tensor, values: Tensor) -> Tensor:
        fragments = rasterize(clip, faces, (28, 31))
        return (interpolate(values, faces, fragments) * pull).sum() + (fragments.depth * pull[..., 0]).sum()

    loss(clip, values).backward()
    assert clip.grad is not None
    assert values.grad is not None
    for tensor, grad in ((clip, clip.grad), (values, values.grad)):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        step = 1e-7
        ends = []
        for sign in (1, -1):
            moved = [(t + sign * step * direction if t is tensor else t).detach() for t in (clip, values)]
            assert torch.equal(rasterize(moved[0], faces, (28, 31)).face_id, rasterize(clip, faces, (28, 31)).face_id)
            ends.append(loss(*moved))
        assert float((grad * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_attributes_of_each_view() -> None:
    vertices, faces = ellipsoid()
    fragments = rasterize(bundle_cameras().clip(vertices), faces, (16, 16))
    own = torch.stack([vertices * (view + 1) for view in range(4)]).requires_grad_()
    leaf = vertices.clone().requires_grad_()
    images = interpolate(own, faces, fragments)
    shared = interpolate(leaf, faces, fragments)
    torch.testing.assert_close(images, shared * torch.arange(1, 5)[:, None, None, None])
    images.sum().backward()
    shared.sum().backward()
    torch.testing.assert_close(own.grad.sum(0), leaf.grad)
    alone = interpolate(own[2], faces, fragments)[2].sum()
    torch.testing.assert_close(own.grad[2], torch.autograd.grad(alone, own)[0][2])
    with pytest.raises(BadInput):
        interpolate(own[:2], faces, fragments)


@pytest.mark.parametrize("threads", [2])
def test_threads_do_not_change_a_byte(threads: int) -> None:
    vertices, faces = ellipsoid()

    def run() -> list[Tensor]:
        leaf = vertices.clone().requires_grad_()
        fragments: Fragments = rasterize(bundle_cameras().clip(leaf), faces, (96, 96))
        image = interpolate(leaf, faces, fragments)
        (image.square().sum() + fragments.depth.sum()).backward()
        assert leaf.grad is not None
        return [fragments.face_id, fragments.barycentric, image, leaf.grad]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(threads)
        two = run()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_closed_surface_shows_the_same_without_the_faces_that_look_away() -> None:
    grid = grid_points(28, 1.1, torch.device("cpu"))
    balls = [
        ((grid - torch.tensor(middle)) / torch.tensor(radii)).norm(dim=-1) - 1
        for middle, radii in (((0.1, 0.2, -0.3), (0.5, 0.3, 0.4)), ((-0.3, -0.4, 0.3), (0.3, 0.45, 0.35)))
    ]
    mesh = isosurface(torch.minimum(*balls), (-1.1,) * 3, (1.1,) * 3)
    clip = bundle_cameras().clip(mesh.vertices)
    whole = rasterize(clip, mesh.faces, (96, 80))
    assert torch.equal(rasterize(clip, mesh.faces, (96, 80), closed=True).face_id, whole.face_id)
    inside_out = rasterize(clip, mesh.faces.flip(1), (96, 80), closed=True)
    assert (inside_out.depth > whole.depth)[whole.mask].float().mean() > 0.95  # only their far sides are left
