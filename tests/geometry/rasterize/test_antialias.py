"""Silhouettes: drawn pictures, areas known in closed form, finite differences."""

from __future__ import annotations

import pytest
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.rasterize import antialias, interpolate, mesh_edges, rasterize
from kiss3d_cli.geometry.rasterize.silhouette import silhouette_edges


def on_screen(points: list[tuple[float, float, float]], size: tuple[int, int]) -> Tensor:
    """(1, N, 4) clip-space vertices at the pixel coordinates (x, y), y down, at the depth w."""
    height, width = size
    rows = [((2 * x / width - 1) * w, (1 - 2 * y / height) * w, 0.0, w) for x, y, w in points]
    return torch.tensor([rows], dtype=torch.float64)


def mask_of(clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    fragments = rasterize(clip, faces, size)
    return antialias(fragments.mask[..., None].to(clip.dtype), clip, faces, fragments)[..., 0]


@pytest.mark.parametrize("winding", [[[0, 1, 2], [0, 2, 3]], [[0, 2, 1], [2, 0, 3]]])
def test_drawn_rectangle_covers_shares_of_its_rim(winding: list[list[int]]) -> None:
    # From (1.2, 0.9) to (4.4, 3.3): columns 1 to 4 are covered by 0.8, 1, 1, 0.4, rows 0 to 3 by 0.1, 1, 1, 0.3.
    size = (5, 6)
    clip = on_screen([(1.2, 0.9, 2), (4.4, 0.9, 2), (4.4, 3.3, 2), (1.2, 3.3, 2)], size)
    expected = torch.tensor(
        [
            [0, 0.1, 0.1, 0.1, 0, 0],
            [0, 0.8, 1, 1, 0.4, 0],
            [0, 0.8, 1, 1, 0.4, 0],
            [0, 0.3, 0.3, 0.3, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(mask_of(clip, torch.tensor(winding), size)[0], expected, atol=1e-12, rtol=0)


def blended_row(rectangles: list[tuple[float, float, float, float]]) -> Tensor:
    """One row of 6 pixels of upright rectangles (left, its depth, right, its depth), of the values 1, 3, 9."""
    size = (1, 6)
    points = [
        (x, y, w) for a, wa, b, wb in rectangles for x, y, w in [(a, -9, wa), (b, -9, wb), (b, 9, wb), (a, 9, wa)]
    ]
    clip = on_screen([(float(x), float(y), float(w)) for x, y, w in points], size)
    faces = torch.tensor([[4 * i + k for k in face] for i in range(len(rectangles)) for face in ([0, 1, 2], [0, 2, 3])])
    fragments = rasterize(clip, faces, size)
    values = torch.tensor([[3.0**i] for i in range(len(rectangles)) for _ in range(4)], dtype=torch.float64)
    return antialias(interpolate(values, faces, fragments), clip, faces, fragments)[0, 0, :, 0]


def expect(row: Tensor, values: list[float]) -> None:
    torch.testing.assert_close(row, torch.tensor(values, dtype=torch.float64))


def test_a_nearer_face_blends_over_a_farther_one() -> None:
    expect(blended_row([(1, 1, 3.7, 1), (2.3, 2, 6, 2)]), [0, 1, 1, 1 + 0.3 * 2, 3, 3])


def test_a_hidden_rim_changes_nothing() -> None:
    # Two slanted rectangles meet at 3, just between two centres; the rim at 2.7 behind them is farther out.
    expect(blended_row([(0, 1.5, 3, 1.25), (3, 1.25, 6, 1), (2.7, 2, 6, 2)]), [1, 1, 1, 3, 3, 3])


def test_a_sliver_between_two_centres_lengthens_what_it_touches() -> None:
    # The sliver from 1.8 to 2.2 covers no centre. With the rectangle behind it the shape begins at 1.8, in pixel 1;
    # its right rim must not mix the background, which lies on its inner side, into the rectangle.
    expect(blended_row([(1.8, 1, 2.2, 1), (2.4, 2, 6, 2)]), [0, 0.2 * 3, 3, 3, 3, 3])


def test_edges_inside_a_surface_are_no_silhouettes() -> None:
    clip = on_screen([(0, 0, 1), (8, 0, 2), (8, 8, 1), (0, 8, 3)], (8, 8))
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    edges = mesh_edges(faces)
    outline = silhouette_edges(clip, faces, edges)
    assert edges.ends.shape[0] == 5
    assert sorted(map(tuple, outline.ends.tolist())) == [(0, 1), (0, 3), (1, 2), (2, 3)]
    # Folded over, the diagonal is one: both faces lie on the same side of it.
    folded = on_screen([(0, 0, 1), (8, 0, 2), (8, 8, 1), (6, 1, 3)], (8, 8))
    assert (0, 2) in set(map(tuple, silhouette_edges(folded, faces, edges).ends.tolist()))


def test_a_face_through_the_near_plane_keeps_its_facing_and_its_rim() -> None:
    # A floor that runs from behind the camera to the distance 4: its far rim lies at y = 4 / 4 under the horizon.
    points = torch.tensor(
        [[-0.57, -1, 5, 1], [90, -1, 5, 1], [90, -1, -4.1, 1], [-0.57, -1, -4.1, 1]], dtype=torch.float64
    )
    projection = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -1.0], [0, 0, -1, 0]], dtype=torch.float64)
    clip = (points @ projection.T)[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    outline = silhouette_edges(clip, faces, mesh_edges(faces))
    assert sorted(map(tuple, outline.ends.tolist())) == [(0, 1), (0, 3), (1, 2), (2, 3)]
    mask = mask_of(clip, faces, (16, 16))
    column = mask.detach()[0, :, 12]
    covered = 16 - (8 + 8 / 4.1)
    assert float(column.sum()) == pytest.approx(covered)
    # The left rim, which passes the near plane, runs from the horizon's middle down and left by 0.57 pixels a row.
    rows = torch.arange(11, 16, dtype=torch.float64) + 0.5 - 8
    torch.testing.assert_close(mask.detach()[0, 11:].sum(1), 8 + 0.57 * rows)
    mask.sum().backward()
    assert clip.grad is not None
    assert bool(torch.isfinite(clip.grad).all())
    assert bool(clip.grad.any())


def blob(subdivisions: int) -> tuple[Tensor, Tensor]:
    """A bumpy closed surface without symmetry: (N, 3) float64 and (F, 3)."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = torch.tensor(ball.vertices, dtype=torch.float64)
    bump = 1 + 0.15 * torch.sin(3 * points[:, :1] + 1) * torch.cos(4 * points[:, 1:2])
    return points * bump * torch.tensor([0.9, 0.7, 0.5]), torch.tensor(ball.faces, dtype=torch.int64)


@pytest.mark.parametrize("subdivisions", [2, 6])
def test_area_of_a_sphere_and_its_derivative_however_small_the_faces(subdivisions: int) -> None:
    # At 6 subdivisions there are 82,000 faces on 96 x 96 pixels: hardly one at the rim covers a pixel centre.
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    points, faces = torch.tensor(ball.vertices) * 0.8, torch.tensor(ball.faces, dtype=torch.int64)
    cameras = bundle_cameras()
    matrix = (cameras.projection @ cameras.world_to_camera).double()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    clip = torch.einsum("vij,nj->vni", matrix[:, :, :3], points * scale) + matrix[:, None, :, 3]
    area = mask_of(clip, faces, (96, 96)).sum((1, 2))
    area.sum().backward()
    assert scale.grad is not None

    def fine(factor: float) -> float:
        """The area in the same unit, by counting pixel centres at 12 times the resolution."""
        moved = torch.einsum("vij,nj->vni", matrix[:, :, :3], points * factor) + matrix[:, None, :, 3]
        return float(rasterize(moved, faces, (1152, 1152)).mask.sum()) / 144

    assert float(area.detach().sum()) == pytest.approx(fine(1), rel=1e-3)
    assert scale.grad.item() == pytest.approx((fine(1.01) - fine(0.99)) / 0.02, rel=0.02)


@pytest.mark.parametrize("subdivisions", [3, 5])
@pytest.mark.parametrize("kind", ["silhouette", "normal"])
def test_losses_agree_with_finite_differences(subdivisions: int, kind: str) -> None:
    points, faces = blob(subdivisions)
    cameras = bundle_cameras()
    matrix = (cameras.projection @ cameras.world_to_camera).double()
    edges = mesh_edges(faces)
    size = (128, 128)
    attribute = torch.nn.functional.normalize(points / torch.tensor([0.9, 0.7, 0.5]) ** 2, dim=-1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    goal = ((x * 1.3 + 0.1) ** 2 + (y * 1.6 - 0.1) ** 2 < 0.5).double()

    def loss(moved: Tensor) -> Tensor:
        clip = torch.einsum("vij,nj->vni", matrix[:, :, :3], moved) + matrix[:, None, :, 3]
        fragments = rasterize(clip, faces, size)
        if kind == "silhouette":
            image = fragments.mask[..., None].double()
            return (antialias(image, clip, faces, fragments, edges)[..., 0] - goal).square().sum()
        image = interpolate(attribute, faces, fragments)
        return (antialias(image, clip, faces, fragments, edges) - torch.stack([x, y, x * y], -1)).square().sum()

    def slope(shift: float, direction: Tensor) -> float:
        leaf = (points + shift * direction).requires_grad_()
        loss(leaf).backward()
        assert leaf.grad is not None
        return float((leaf.grad * direction).sum())

    def difference(step: float, direction: Tensor) -> float:
        return float(loss(points + step * direction) - loss(points - step * direction)) / (2 * step)

    for direction in (points, points[:, [1, 2, 0]]):
        # While no pixel changes its face, the derivative is exact.
        assert slope(0, direction) == pytest.approx(difference(1e-6, direction), rel=1e-3)
    # Across changes of face (half a pixel here), it adds up to the change of the loss: the picture has no jumps.
    steps = [(i - 7.5) / 8 * 0.01 for i in range(16)]
    mean = sum(slope(shift, points) for shift in steps) / len(steps)
    assert mean == pytest.approx(difference(0.01, points), rel=0.02)


def test_an_image_that_does_not_fit_is_refused_and_an_empty_mesh_changes_nothing() -> None:
    clip = on_screen([(0, 0, 1), (8, 0, 1), (0, 8, 1)], (8, 8))
    fragments = rasterize(clip, torch.tensor([[0, 1, 2]]), (8, 8))
    with pytest.raises(BadInput, match="does not fit"):
        antialias(torch.zeros(1, 4, 8, 2, dtype=torch.float64), clip, torch.tensor([[0, 1, 2]]), fragments)
    image = torch.rand(1, 8, 8, 2, dtype=torch.float64)
    assert torch.equal(antialias(image, clip, torch.zeros(0, 3, dtype=torch.int64), fragments), image)


def test_threads_do_not_change_a_byte() -> None:
    points, faces = blob(4)

    def run() -> list[Tensor]:
        leaf = points.float().requires_grad_()
        image = mask_of(bundle_cameras().clip(leaf), faces, (96, 96))
        image.square().sum().backward()
        assert leaf.grad is not None
        return [image, leaf.grad]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(2)
        two = run()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
