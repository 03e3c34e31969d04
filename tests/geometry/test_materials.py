"""Materials of drawn colours, and a back on which two of them meet."""

from __future__ import annotations

import numpy as np
import pytest

from kiss3d_cli.geometry.inflate.sheet_colors import continued
from kiss3d_cli.geometry.materials import MOST, Materials, mixed

RED, BLUE, WHITE, BLACK = [0.8, 0.1, 0.1], [0.1, 0.2, 0.8], [0.95, 0.95, 0.9], [0.05, 0.05, 0.06]


def shaded(color: list[float], rng: np.random.Generator, count: int = 400) -> np.ndarray:
    """In light and shade."""
    return np.array(color) * rng.uniform(0.75, 1, (count, 1))


def test_light_and_shade_are_of_one_material() -> None:
    rng = np.random.default_rng(0)
    parts = [shaded(color, rng) for color in (RED, BLUE, WHITE)]
    materials = Materials.of(np.concatenate(parts))
    labels = [np.unique(materials.label(part)) for part in parts]
    assert [len(found) for found in labels] == [1, 1, 1]
    assert len(np.unique(np.concatenate(labels))) == 3 == len(materials.centers)


def test_one_colour_and_thousands() -> None:
    one = Materials.of(np.full((7, 3), 0.25))
    assert len(one.centers) == 1
    assert one.alike.item() == pytest.approx(1)
    many = np.random.default_rng(1).uniform(size=(5000, 3))
    found = Materials.of(many)
    assert 3 < len(found.centers) <= MOST
    np.testing.assert_array_equal(found.centers, Materials.of(many).centers)


def test_the_greatest_share_wins_and_shades_are_mixed() -> None:
    colors = np.array([RED, [0.5, 0.04, 0.04], WHITE, BLACK])
    materials = Materials(np.zeros((4, 3)), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    shares = np.array([[0.3, 0.2, 0.4, 0.1], [0, 0.1, 0.5, 0.4]])
    found = mixed(shares, np.broadcast_to(colors, (2, 4, 3)), materials)
    np.testing.assert_allclose(found[0], 0.6 * np.array(RED) + 0.4 * np.array([0.5, 0.04, 0.04]))
    np.testing.assert_allclose(found[1], WHITE)


def test_a_highlight_shades_into_its_colour_and_black_meets_white_at_an_edge() -> None:
    pink = [0.95, 0.55, 0.55]
    colors = np.repeat([RED, pink, WHITE, BLACK], 50, 0)
    materials = Materials.of(colors)
    red, light, white, black = materials.label(colors[::50])
    assert red != light
    assert materials.alike[red, light] == 1
    assert max(materials.alike[white, black], materials.alike[red, black]) < 0.01


def test_on_the_back_two_materials_meet_at_an_edge() -> None:
    y, x = np.mgrid[0:256, 0:256] + 0.5
    solid = np.hypot(x - 128, y - 128) < 100
    # red and blue along a slant, so that the rims left and right differ in height
    rgb = np.where((y < 128 + 0.3 * (x - 128))[..., None], RED, BLUE)
    back = continued(rgb, solid)
    away = np.minimum(np.abs(back - RED).max(-1), np.abs(back - BLUE).max(-1))
    assert (away[solid] > 0.05).mean() < 0.03
    assert (np.abs(back - RED).max(-1) < 0.05)[solid].mean() == pytest.approx(0.5, abs=0.05)


def test_a_silhouette_thinner_than_the_grid_has_colours() -> None:
    solid = np.zeros((512, 512), bool)
    solid[256, 100:400] = True
    back = continued(np.broadcast_to(np.array(BLUE), (512, 512, 3)).copy(), solid)
    np.testing.assert_allclose(back, np.broadcast_to(BLUE, back.shape), atol=0.02)
