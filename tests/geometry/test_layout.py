"""Where the pieces of a picture stand behind each other: told by where each meets the ground."""

from __future__ import annotations

import numpy as np
import pytest

from kiss3d_cli.geometry.inflate.layout import DEEPEST, RECESSION, SAME_GROUND, piece_depths

SIDE = 100


def picture(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes as top, bottom, left, right."""
    found = np.zeros((SIDE, SIDE))
    for top, bottom, left, right in boxes:
        found[top:bottom, left:right] = 1
    return found


def depth_at(coverage: np.ndarray, *places: tuple[int, int]) -> list[float]:
    layout = piece_depths(coverage)
    return [float(layout.depth[place]) for place in places]


@pytest.mark.parametrize("boxes", [[], [(10, 40, 10, 60)]])
def test_one_piece_or_none_stands_in_the_middle(boxes: list[tuple[int, int, int, int]]) -> None:
    layout = piece_depths(picture(*boxes))
    assert layout.count == len(boxes)
    assert not layout.depth.any()


def test_what_meets_the_ground_higher_is_further_away() -> None:
    low, high = depth_at(picture((40, 90, 10, 40), (30, 75, 60, 90)), (50, 20), (50, 70))
    assert high - low == pytest.approx(RECESSION * 0.15)
    assert low + high == pytest.approx(0)  # about the middle


def test_side_by_side_is_one_plane() -> None:
    lower = 90 - int(SAME_GROUND * SIDE)
    a, b = depth_at(picture((40, 90, 10, 40), (40, lower, 60, 90)), (50, 20), (50, 70))
    assert a == b == 0


def test_what_lies_over_another_takes_its_place() -> None:
    """An i beside an l, the l further away: the dot goes with its own stem."""
    coverage = picture((50, 90, 10, 20), (30, 40, 10, 20), (20, 70, 60, 70))
    stem, dot, other = depth_at(coverage, (60, 15), (35, 15), (50, 65))
    assert dot == stem
    assert other > stem


def test_a_tower_of_three_takes_the_lowest() -> None:
    coverage = picture((80, 95, 40, 60), (60, 75, 42, 58), (40, 55, 44, 56), (40, 60, 80, 90))
    lowest, middle, highest, aside = depth_at(coverage, (90, 50), (70, 50), (50, 50), (50, 85))
    assert lowest == middle == highest
    assert aside > lowest


def test_the_deepest_are_pressed_together() -> None:
    far, near = depth_at(picture((0, 5, 10, 30), (80, 99, 60, 90)), (2, 20), (90, 70))
    assert far - near == pytest.approx(DEEPEST)


def test_the_places_do_not_depend_on_the_order_of_labels() -> None:
    coverage = picture((40, 90, 10, 40), (30, 75, 60, 90))
    mirrored = piece_depths(coverage[:, ::-1]).depth[:, ::-1]
    np.testing.assert_allclose(mirrored, piece_depths(coverage).depth)
