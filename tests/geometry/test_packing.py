"""Charts in one picture: apart from each other, inside it, the first view's on its own grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.texture.packing import PADDING, VIEW, pack


def rectangle(left: float, top: float, width: float, height: float) -> np.ndarray:
    """Corners, in shares of a view's side."""
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]], float)


def packed(charts: list[np.ndarray], important: list[bool], size: int) -> list[np.ndarray]:
    chart = np.repeat(np.arange(len(charts)), [len(points) for points in charts])
    placed = pack(np.concatenate(charts), chart, np.array(important), size)
    return [placed[chart == number] for number in range(len(charts))]


def check_apart(placed: list[np.ndarray], size: int) -> None:
    boxes = [(points.min(0), points.max(0)) for points in placed]
    for low, high in boxes:
        assert (low >= PADDING - 1e-9).all()
        assert (high <= size - PADDING + 1e-9).all()
    for number, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:number]:
            gap = np.maximum(low - other_high, other_low - high)
            assert gap.max() >= PADDING - 1e-9


def test_an_important_chart_has_one_texel_for_each_pixel_of_its_view() -> None:
    shape = rectangle(0.21, 0.1, 0.3, 0.55)
    (placed,) = packed([shape], [True], 1024)
    moved = placed - shape * VIEW
    assert np.allclose(moved, moved[0])  # neither scaled nor turned
    assert np.allclose(moved[0], moved[0].round(), atol=1e-9)  # on the view's own pixels
    (twice,) = packed([shape], [True], 2048)
    assert np.allclose(np.ptp(twice, 0), 2 * np.ptp(placed, 0))


def test_the_others_give_way_first() -> None:
    large = rectangle(0, 0, 0.9, 0.9)
    charts = [large, large, large, large, large]
    placed = packed(charts, [True, False, False, False, False], 1024)
    check_apart(placed, 1024)
    sides = [float(np.ptp(points, 0)[0]) for points in placed]
    assert sides[0] == pytest.approx(0.9 * VIEW)
    assert all(0.4 * sides[0] <= side < sides[0] for side in sides[1:])


def test_what_cannot_fit_at_all_is_made_smaller_too() -> None:
    placed = packed([rectangle(0, 0, 1, 1)] * 9, [True] * 9, 512)
    check_apart(placed, 512)
    assert len({round(float(np.ptp(points, 0)[0]), 6) for points in placed}) == 1


boxes = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=30), st.sampled_from([256, 1000, 1024]))
def test_any_charts_lie_apart_and_keep_their_proportions(given_boxes: list[tuple], size: int) -> None:
    charts = [rectangle(*box[:4]) for box in given_boxes]
    placed = packed(charts, [box[4] for box in given_boxes], size)
    check_apart(placed, size)
    for before, after in zip(charts, placed, strict=True):
        scale = np.ptp(after, 0) / np.ptp(before, 0)
        assert scale[0] == pytest.approx(scale[1], rel=1e-6)


def test_more_charts_than_there_is_room_for_are_refused() -> None:
    charts = [rectangle(x / 60, y / 60, 0.01, 0.01) for x in range(60) for y in range(60)]
    with pytest.raises(BadInput, match="3,600 charts do not fit into a texture of 128 pixels"):
        packed(charts, [True] * len(charts), 128)
    assert len(packed(charts, [True] * len(charts), 512)) == 3600
