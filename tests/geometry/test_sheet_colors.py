from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.sheet_colors import SheetColors, continued, half_thickness, sample, unfringed
from kiss3d_cli.geometry.inflate.views import show_surface

SIDE = 256


def picture() -> tuple[np.ndarray, np.ndarray]:
    """A disc, upper half red, lower half blue, a yellow button in the middle, a white fringe of a pixel and a half."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    radius = np.hypot(x - 128, y - 128)
    rgb = np.where((y < 128)[..., None], [0.8, 0.1, 0.1], [0.1, 0.2, 0.8])
    rgb[radius < 14] = [0.9, 0.9, 0.1]
    rgb[radius > 98.6] = 1
    return rgb, radius < 100


def test_samples_are_bilinear_between_pixel_centres() -> None:
    values = np.arange(12.0).reshape(3, 4, 1)
    points = np.array([[0.125, 1 / 6], [0.25, 1 / 6], [0.375, 0.5], [1.0, 1.0], [-3, -3]])
    np.testing.assert_allclose(sample(values, points)[:, 0], [0, 0.5, 5, 11, 0], atol=1e-9)


def test_no_fringe_and_no_background_is_left() -> None:
    rgb, solid = picture()
    own = unfringed(rgb, solid.astype(float), fringe=3.5 / SIDE)
    assert (own.min(-1) < 0.5).all()
    inner = np.hypot(*(np.mgrid[0:SIDE, 0:SIDE] - 127.5)) < 95
    np.testing.assert_array_equal(own[inner], rgb[inner])


def test_narrow_parts_keep_the_colour_of_their_middle() -> None:
    rgb, solid = np.ones((64, 64, 3)), np.zeros((64, 64), bool)
    solid[10:50, 30:33] = True
    rgb[10:50, 31] = [0.1, 0.6, 0.2]
    own = unfringed(rgb, solid.astype(float), fringe=4 / 64)
    np.testing.assert_array_equal(own[20:40], np.broadcast_to([0.1, 0.6, 0.2], (20, 64, 3)))


def test_a_white_halo_goes_and_a_white_part_stays() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    disc, glove = np.hypot(x - 90, y - 128) < 60, np.hypot(x - 200, y - 128) < 10
    rgb = np.ones((SIDE, SIDE, 3))
    # a halo of 6 pixels, three times the plain fringe, that is not even
    halo = disc & (np.hypot(x - 90, y - 128) >= 54)
    rgb[disc] = [0.4, 0.2, 0.1]
    rgb[halo] = np.random.default_rng(0).uniform(0.82, 1, (int(halo.sum()), 3))
    own = unfringed(rgb, (disc | glove).astype(float))
    assert (own[disc] < 0.5).all()
    assert (own[glove] == 1).all()


def test_the_thickness_of_a_drawn_bar_and_disc() -> None:
    y, x = np.mgrid[0:96, 0:96]
    bar = (abs(y - 20) <= 3) & (x > 5) & (x < 90)
    disc = np.hypot(x - 48, y - 64) < 20
    thickness = half_thickness(ndimage.distance_transform_edt(bar | disc), 100.0)
    # within the step of a third
    assert ((thickness[20, 20:70] <= 4.01) & (thickness[20, 20:70] >= 3)).all()
    assert (thickness[18:23, 20:70] >= 3).all()
    inner = np.hypot(x - 48, y - 64) < 14
    assert ((thickness[inner] >= 15) & (thickness[inner] <= 20.01)).all()
    assert (thickness[~(bar | disc)] == 0).all()


def test_the_back_continues_the_outline_and_drops_features() -> None:
    rgb, solid = picture()
    around = continued(unfringed(rgb, solid.astype(float)), solid)
    height = len(around)
    upper, lower = around[height // 4, height // 2], around[-height // 4, height // 2]
    np.testing.assert_allclose(upper, [0.8, 0.1, 0.1], atol=0.1)
    np.testing.assert_allclose(lower, [0.1, 0.2, 0.8], atol=0.1)
    # the button would have red and green alike
    assert around[height // 2, height // 2, 1] < 0.3


def test_front_shows_the_picture_and_back_does_not() -> None:
    rgb, solid = picture()
    points = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.25], [0.51, 0.25]])
    colors = SheetColors(rgb, solid.astype(float)).at(points, np.array([1.0, -1.0, 0.9, 0.0]))
    np.testing.assert_allclose(colors[0], [0.9, 0.9, 0.1], atol=1e-6)
    assert colors[1, 1] < 0.3
    np.testing.assert_allclose(colors[2:], [[0.8, 0.1, 0.1]] * 2, atol=0.05)


def test_no_line_runs_around_the_outline() -> None:
    """A disc shaded towards its outline: the back has the mean of the shading, and fades to it from the outline's."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    radius = np.hypot(x - SIDE / 2, y - SIDE / 2) / (0.4 * SIDE)
    rgb = (0.9 - 0.5 * radius.clip(0, 1) ** 4)[..., None] * np.array([1.0, 0.3, 0.2])
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim = 0.5 + 0.38 * np.stack([np.cos(angle), np.sin(angle)], 1)
    colors = SheetColors(rgb, (radius < 1).astype(float))
    by_facing = np.stack([colors.at(rim, np.full(40, facing)) for facing in np.linspace(0.2, -0.6, 41)])
    assert np.abs(by_facing[0] - by_facing[-1]).max(-1).mean() > 0.1
    assert np.abs(np.diff(by_facing, axis=0)).max() < 0.03


def test_an_even_white_band_is_the_stickers_own() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    radius = np.hypot(x - 128, y - 128)
    rgb = np.where((radius < 80)[..., None], [0.4, 0.2, 0.1], np.ones(3))
    own = unfringed(rgb, (radius < 87).astype(float))
    band = (radius > 81) & (radius < 85)
    assert (own[band] == 1).all()
    # the same with soft edges is no band of its own
    soft = unfringed(rgb, np.where(radius < 80, 1.0, np.where(radius < 87, 0.8, 0)))
    assert (soft[band] < 0.5).all()


def test_no_white_reaches_the_back_of_the_mesh() -> None:
    rgb, solid = picture()
    alpha = torch.from_numpy(solid.astype(np.float64))
    cameras = bundle_cameras()
    surface = inflate(alpha, cameras[[0]], views=cameras)
    shown = show_surface(surface, torch.from_numpy(rgb), alpha, cameras, (128, 128))
    # between yellow and blue all channels are at 0.45; white would bring them up
    back = surface.mesh.vertices[:, 2] < -0.02
    assert shown.vertices[back].min(-1).values.max() < 0.5
