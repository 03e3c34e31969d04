"""Polygons of any shape become triangles that cover them once, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiss3d_cli.geometry.io.polygons import CrossingPolygon, triangulate


def signed_areas(points: np.ndarray, triangles: np.ndarray, normal: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a) @ normal / 2


def turned(flat: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A plane polygon somewhere in space, and its normal."""
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    axes *= np.sign(np.linalg.det(axes))
    return flat @ axes[:2] + [3, -2, 5], axes[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 60), st.integers(0, 2**31), st.booleans())
def test_polygons_of_stars_and_combs(corners: int, seed: int, comb: bool) -> None:
    rng = np.random.default_rng(seed)
    if comb:  # teeth of random lengths: no corner sees all of it
        x = np.sort(rng.uniform(0, 10, corners - 2))
        teeth = np.stack([x, rng.uniform(1, 9, corners - 2)], 1)[::-1]
        flat = np.concatenate([[[0, 0], [10, 0]], teeth])
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        flat = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.1, 1, (corners, 1))
        if np.diff([*angles, angles[0] + 2 * np.pi]).max() > 3.1:
            return  # the middle is outside: such a star may cross itself
    points, normal = turned(flat, seed)
    order = np.roll(np.arange(corners), seed % corners)
    triangles = order[triangulate(points, np.array([corners]), order)]
    assert triangles.shape == (corners - 2, 3)
    areas = signed_areas(points, triangles, normal)
    x, y = flat.T
    area = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
    assert areas.min() >= -1e-9 * area  # none is turned over, so that none overlap
    assert areas.sum() == pytest.approx(area, rel=1e-9)
    # every edge of the polygon is an edge of one triangle, in its own direction
    edges = {(int(t[i]), int(t[(i + 1) % 3])) for t in triangles for i in range(3)}
    assert {(int(order[i]), int(order[(i + 1) % corners])) for i in range(corners)} <= edges


def test_quads_keep_their_first_diagonal_unless_it_is_outside() -> None:
    square = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0.0]])
    arrow = np.array([[0, 0, 0], [2, 1, 0], [0, 2, 0], [0.5, 1, 0.0]])  # concave at its last corner
    points = np.concatenate([square, arrow])
    found = triangulate(points, np.array([4, 4]), np.arange(8))
    np.testing.assert_array_equal(found, [[0, 1, 2], [2, 3, 0], [5, 6, 7], [7, 4, 5]])


def test_a_hole_on_a_bridge() -> None:
    """A square with a square hole, joined by an edge that is there twice, as exporters write it."""
    outer = [[0, 0], [6, 0], [6, 6], [0, 6]]
    hole = [[2, 2], [2, 4], [4, 4], [4, 2]]
    flat = np.array([*outer, outer[0], hole[0], *hole[1:], hole[0]], float)[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
    points, normal = turned(flat, 4)
    areas = signed_areas(points, triangulate(points, np.array([10]), np.arange(10)), normal)
    assert areas.sum() == pytest.approx(32)
    assert areas.min() >= -1e-9


@pytest.mark.parametrize(
    "flat",
    [
        [[0, 0], [1, 1], [1, 0], [0, 1]],  # a bow tie
        [[np.cos(a), np.sin(a)] for a in np.arange(5) * 4 * np.pi / 5],  # a pentagram
        [[0, 0], [4, 0], [4, 4], [3, 4], [3, -1], [0, 4]],
        [[0, 0], [2, 0], [2, 1], [0, 1]] * 3,  # three times around
    ],
)
def test_a_polygon_that_crosses_itself_is_refused_by_its_number(flat: list[list[float]]) -> None:
    points, _ = turned(np.array(flat, float), 1)
    square, _ = turned(np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]), 1)
    both = np.concatenate([square, points])
    with pytest.raises(CrossingPolygon) as caught:
        triangulate(both, np.array([4, len(points)]), np.arange(4 + len(points)))
    assert caught.value.number == 1


def test_corners_that_repeat_are_left_out_and_triangles_stay_as_they_are() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    indices = np.array([0, 1, 2, 2, 0, 0, 1, 1, 2, 3, 3, 0, 1, 1, 1, 1])
    found = indices[triangulate(points, np.array([4, 3, 5, 4]), indices)]
    np.testing.assert_array_equal(found, [[0, 1, 2], [0, 0, 1], [1, 2, 3], [3, 0, 1]])


def test_many_polygons_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 9, 500)
    rings = []
    for number, count in enumerate(counts):
        angles = np.arange(count) * 2 * np.pi / count
        rings.append(np.stack([np.cos(angles) + 3 * number, np.sin(angles), 0 * angles], 1))
    points = np.concatenate(rings)
    found = triangulate(points, counts, np.arange(len(points)))
    owner = np.repeat(np.arange(500), counts)[found]
    assert (owner == owner[:, :1]).all()
    np.testing.assert_array_equal(owner[:, 0], np.repeat(np.arange(500), counts - 2))
