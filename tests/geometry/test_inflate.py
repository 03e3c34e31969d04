from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.heights import height_field, symmetry
from kiss3d_cli.geometry.inflate.inflate import inflate, overhang, pixel_rays, sample_coverage
from kiss3d_cli.geometry.inflate.views import show_surface
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.rasterize import rasterize
from kiss3d_cli.geometry.surface.intersections import self_intersections
from kiss3d_cli.geometry.surface.topology import MeshReport, report


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of every pixel's centre."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    return x, y


def covered(distance: np.ndarray) -> np.ndarray:
    """Coverage of a region given by a signed distance in pixels, negative inside."""
    return (0.5 - distance).clip(0, 1)


def as_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices.double().numpy(), mesh.faces.numpy(), process=False)


def project(mesh: Mesh, azimuth: float = 0.0) -> np.ndarray:
    """(N, 2) column and row as shares of the picture's side."""
    clip = orbit_cameras([azimuth]).clip(mesh.vertices)[0]
    screen = (clip[:, :2] / clip[:, 3:]).double().numpy()
    return np.stack([(screen[:, 0] + 1) / 2, (1 - screen[:, 1]) / 2], -1)


def lopsided(side: int = 128) -> Tensor:
    """An object without symmetry, with an opening: disc, bar, hole."""
    x, y = grid(side)
    u, v = x / side, y / side
    body = np.hypot(u - 0.42, v - 0.58) - 0.28
    bar = np.maximum(abs(u - 0.7) - 0.2, abs(v - 0.35) - 0.05)
    hole = 0.07 - np.hypot(u - 0.36, v - 0.66)
    return torch.from_numpy(covered(np.maximum(np.minimum(body, bar), hole) * side))


def test_a_disc_becomes_a_ball() -> None:
    x, y = grid(160)
    radius, center = 60.3, (80.4, 78.7)
    r = np.hypot(x - center[0], y - center[1])
    height = np.sqrt(height_field(covered(r - radius)).squared)
    expected = np.sqrt(np.maximum(radius**2 - r**2, 0))
    assert abs(height - expected)[r < radius - 8].max() < 0.25
    # turning makes the poles a little blunter
    assert abs(height - expected)[r < radius - 3].max() < 1.5
    assert abs(height.max() - radius) < 0.1
    assert (height[r > radius + 1] == 0).all()


def test_a_strip_becomes_a_round_rod() -> None:
    x, y = grid(160)
    height = np.sqrt(height_field(covered(np.maximum(abs(x - 80.2) - 15.4, abs(y - 80) - 75))).squared)
    middle = slice(60, 100)
    expected = np.sqrt(np.maximum(15.4**2 - (x - 80.2) ** 2, 0))
    away = abs(x - 80.2) < 13
    assert abs(height - expected)[middle][away[middle]].max() < 0.3


@pytest.mark.parametrize("center", [(0.0, 0.0), (0.35, -0.4)])
def test_the_picture_of_a_ball_becomes_that_ball(center: tuple[float, float]) -> None:
    side, radius = 256, 0.45
    eye = orbit_cameras([0.0]).centers[0].double().numpy()
    ball = np.array([*center, 0.0])
    x, y = grid(side)
    rays, _ = pixel_rays(np.stack([x.ravel(), y.ravel()], -1) / side, orbit_cameras([0.0]))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    along = rays @ (ball - eye)
    distance = np.linalg.norm(ball - eye - along[:, None] * rays, axis=1).reshape(side, side) - radius
    pixel = 2 * np.linalg.norm(eye) * np.tan(np.deg2rad(15)) / side
    mesh = inflate(torch.from_numpy(covered(distance / pixel)), resolution=side, depth=1.0).mesh
    vertices = mesh.vertices.double().numpy()
    error = np.linalg.norm(vertices - ball, axis=1) - radius
    assert abs(error).max() < 0.025
    assert abs(error).mean() < 0.01
    assert abs(as_trimesh(mesh).volume / (4 / 3 * np.pi * radius**3) - 1) < 0.04


def test_the_picture_of_the_surface_is_the_silhouette() -> None:
    alpha = lopsided()
    mesh = inflate(alpha, resolution=128).mesh
    points = project(mesh)
    solid = torch.nn.functional.grid_sample(
        alpha[None, None].float(),
        torch.from_numpy(points * 2 - 1).float()[None, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0, 0, 0]
    # the outline is smoothed over a pixel, so that corners lose a part of one
    assert (solid > 0.15).all()
    assert (solid > 0.4).float().mean() > 0.99
    # the last vertices are the outline's, where the coverage crosses one half
    outline = solid[-200:]
    assert (outline - 0.5).abs().mean() < 0.06
    # and every pixel of the silhouette is covered by the front sheet
    faces = mesh.faces.numpy()
    corners = points[faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    signed = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    front = -signed[signed < 0].sum()
    assert abs(front - float(alpha.mean())) < 0.003
    np.testing.assert_allclose(signed.sum(), 0, atol=1e-6)


def test_a_symmetric_trunk_is_turned_and_a_lopsided_one_is_not() -> None:
    x, y = grid(128)
    # a lying ellipse, 100 wide and 50 high, and the same with its right half cut away
    ellipse = np.hypot((x - 64) / 2, y - 64) - 25
    whole = torch.from_numpy(covered(ellipse))
    assert symmetry(whole.numpy() > 0.5) == 1
    half = torch.from_numpy(covered(np.maximum(ellipse, (x - 90) + 0.3 * (y - 64))))
    deep = [np.ptp(inflate(alpha, resolution=128).mesh.vertices[:, 2].numpy()) for alpha in (whole, half)]
    assert deep[0] > 1.25 * deep[1]


def test_the_underside_of_a_turned_cap_is_nearly_flat() -> None:
    """A half disc on a stem, as a mushroom is: turned about its axis it is a dome, as deep at its rim as it is wide."""
    row, column = np.mgrid[:128, :128] + 0.5
    cap = (np.hypot(column - 64, row - 70) < 40) & (row < 70)
    stem = (abs(column - 64) < 8) & (row >= 70) & (row < 110)
    found = inflate(torch.from_numpy((cap | stem).astype(np.float32)))
    at, depth = found.on_picture * 128, found.mesh.vertices[:, 2].numpy()
    rim = (abs(at[:, 0] - 84) < 3) & (at[:, 1] > 65) & (at[:, 1] < 67.5)
    assert depth[rim].max() > 0.7 * depth.max()


@pytest.mark.parametrize("resolution", [32, 96, 300])
def test_it_is_closed_and_keeps_its_openings(resolution: int) -> None:
    mesh = as_trimesh(inflate(lopsided(), resolution=resolution).mesh)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.euler_number == 0  # one opening
    assert mesh.volume > 0


def drawn(kind: str, side: int = 128) -> Tensor:
    mask = np.zeros((side, side), bool)
    if kind == "one pixel":
        mask[40, 50] = True
    elif kind == "thin lines":
        mask[20:108, 30] = True
        mask[60, 30:100] = True
        mask[np.arange(60, 100), np.arange(60, 100)] = True
    elif kind == "full":
        mask[:] = True
    elif kind == "border":
        mask[30:, :50] = True
    elif kind == "frame":
        mask[10:118, 10:118] = True
        mask[14:114, 14:114] = False
    elif kind == "pieces":
        mask[10:60, 10:60] = True
        mask[80:120, 70:120] = True
    elif kind == "checkers":
        mask = (np.indices((side, side)) // 8).sum(0) % 2 == 0
    return torch.from_numpy(mask).double()


@pytest.mark.parametrize("kind", ["one pixel", "thin lines", "full", "border", "frame", "pieces", "checkers"])
@pytest.mark.parametrize("resolution", [64, 128])
def test_odd_silhouettes_become_closed_pieces(kind: str, resolution: int) -> None:
    alpha = drawn(kind)
    rgb = alpha[..., None].expand(-1, -1, 3) * torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    surface = inflate(alpha, resolution=resolution)
    mesh, solid = surface.mesh, as_trimesh(surface.mesh)
    shown = show_surface(surface, rgb, alpha, bundle_cameras(), (64, 64))
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.body_count == surface.pieces == {"pieces": 2}.get(kind, 1)
    assert solid.volume > 0
    assert bool(torch.isfinite(mesh.vertices).all())
    assert mesh.vertices.abs().max() < 1.3
    for colors in (shown.vertices, shown.views):
        assert bool(((colors >= 0) & (colors <= 1)).all())


def test_an_empty_silhouette_is_refused() -> None:
    with pytest.raises(BadInput, match="empty"):
        inflate(torch.zeros(64, 64, dtype=torch.float64))


def test_lines_of_one_pixel_survive_a_coarse_grid() -> None:
    coverage = sample_coverage(drawn("thin lines"), 48)
    assert (coverage > 0.5).sum() > 48 / 128 * (88 + 70 + 40) * 0.8


def test_the_same_bytes_on_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    alpha = lopsided()
    rgb = torch.rand(128, 128, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            surface = inflate(alpha)
            shown = show_surface(surface, rgb, alpha, bundle_cameras(), (64, 64))
            results.append((surface.mesh.vertices.numpy().tobytes(), shown.views.numpy().tobytes()))
    finally:
        torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_the_overhang_is_what_a_mesh_is_too_large_by() -> None:
    faces = torch.tensor([[0, 1, 2]])
    wide = Mesh(torch.tensor([[0.9, -0.9, 0.1], [-0.9, -0.9, -0.2], [0.1, 0.8, 0.0]]), faces)
    cameras = bundle_cameras()
    small = wide.with_vertices(wide.vertices / overhang(wide, cameras, margin=0.05))
    clip = cameras.clip(small.vertices)
    reach = float((clip[..., :2].abs() / clip[..., 3:]).max())
    assert abs(reach - 0.95) < 1e-5
    assert abs(overhang(small, cameras, margin=0.05) - 1) < 1e-5


def test_what_another_view_would_cut_off_is_seen_smaller_and_not_otherwise() -> None:
    alpha = torch.zeros(128, 128, dtype=torch.float64)
    alpha[9:119, 9:119] = 1  # its corners come too close to the cameras at the sides
    cameras = bundle_cameras()
    surface = inflate(alpha, cameras[[0]], views=cameras)
    assert surface.scale < 0.95
    assert overhang(surface.mesh, cameras) <= 1
    seen = project(surface.mesh)
    front = np.abs(seen - (0.5 + surface.scale * (surface.on_picture - 0.5)))
    assert front.max() < 1e-5
    assert inflate(lopsided(), cameras[[0]], views=cameras).scale == 1


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_wires_are_kept_to_the_pixel(width: int) -> None:
    mask = np.zeros((256, 256), bool)
    mask[40:216, 100 : 100 + width] = True
    rows = np.arange(60, 180)
    for offset in range(width):
        mask[rows, 110 + (rows * 0.4).astype(int) + offset] = True
    mask[60, 100:180] = True
    alpha = torch.from_numpy(mask.astype(np.float64))
    surface = inflate(alpha)
    shown = rasterize(orbit_cameras([0.0]).clip(surface.mesh.vertices), surface.mesh.faces, (256, 256)).mask[0].numpy()
    assert (shown & mask).sum() / (shown | mask).sum() > 0.98
    solid = as_trimesh(surface.mesh)
    assert solid.is_watertight
    assert self_intersections(surface.mesh.vertices.double().numpy(), surface.mesh.faces.numpy()) == 0


def test_pieces_stand_behind_each_other_as_they_meet_the_ground() -> None:
    mask = np.zeros((128, 128))
    mask[70:110, 10:40] = 1  # in front
    mask[20:60, 60:100] = 1  # behind
    mask[10:16, 65:90] = 1  # over the one behind
    alpha = torch.from_numpy(mask)
    surface = inflate(alpha)
    assert surface.pieces == 3
    bodies = as_trimesh(surface.mesh).split()
    front, behind, over = sorted(bodies, key=lambda body: body.centroid[1])
    assert front.centroid[2] > behind.centroid[2] + 0.3
    assert abs(over.centroid[2] - behind.centroid[2]) < 0.05
    points = project(surface.mesh)
    np.testing.assert_allclose(points, surface.on_picture, atol=1e-5)
    level = np.zeros((128, 128))
    level[40:90, 10:40] = level[42:88, 60:100] = 1  # letters on one line
    assert np.ptp([body.centroid[2] for body in as_trimesh(inflate(torch.from_numpy(level)).mesh).split()]) < 0.02


def test_a_slit_of_two_pixels_is_closed_and_a_gap_of_six_is_not() -> None:
    """Samples see a slit as a row of holes: cactus ribs and chair backs had hundreds of ragged edges there."""
    alpha = torch.zeros(512, 512)
    alpha[100:400, 120:380] = 1
    row = torch.arange(130, 370)
    for shift in (0, 1):
        alpha[row, row + shift] = 0  # a diagonal slit
    assert report_of(inflate(alpha).mesh).genus == 0
    alpha[180:320, 300:306] = 0
    assert report_of(inflate(alpha).mesh).genus == 1


def test_a_slit_between_two_pieces_stays() -> None:
    alpha = torch.zeros(512, 512)
    alpha[100:400, 120:250] = 1
    alpha[150:300, 252:380] = 1
    assert report_of(inflate(alpha).mesh).components == 2


def report_of(mesh: Mesh) -> MeshReport:
    return report(mesh.vertices.double().numpy(), mesh.faces.numpy())


def test_small_pieces_are_sampled_finely() -> None:
    """What is mostly outline is told by it: two balls of 40 pixels get the fine grid, one of 300 the coarse one."""
    row, column = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    large = ((row - 255.5) ** 2 + (column - 255.5) ** 2 < 150**2).float()
    small = ((row - 255.5) ** 2 + ((column - 255.5).abs() - 150) ** 2 < 20**2).float()
    per_pixel = [len(inflate(alpha).mesh.vertices) / float(alpha.sum()) for alpha in (large, small)]
    assert per_pixel[0] < 0.5 < 1 < per_pixel[1]
