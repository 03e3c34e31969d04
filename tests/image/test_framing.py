from __future__ import annotations

import numpy as np
import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.framing import frame_foreground


def scene(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A red box with a blue top-left quarter on green, and its alpha."""
    top, left, bottom, right = box
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[...] = (0, 255, 0)
    rgb[top:bottom, left:right] = (255, 0, 0)
    rgb[top : (top + bottom) // 2, left : (left + right) // 2] = (0, 0, 255)
    alpha = np.zeros((height, width), np.uint8)
    alpha[top:bottom, left:right] = 255
    return rgb, alpha


def test_a_box_lands_where_it_is_drawn() -> None:
    rgb, alpha = scene(300, 400, (100, 50, 140, 130))  # 40 high, 80 wide: scaled by 0.8 * 100 / 80 = 1
    framed = frame_foreground(rgb, alpha, size=100, fill=0.8)
    expected = np.zeros((100, 100), bool)
    expected[30:70, 10:90] = True
    np.testing.assert_array_equal(framed.mask, expected)
    np.testing.assert_array_equal(framed.rgb[30:70, 10:90], rgb[100:140, 50:130])
    assert (framed.rgb[~expected] == 255).all()
    np.testing.assert_array_equal(framed.rgba[..., 3], expected * np.uint8(255))
    assert framed.notes == ("The object is only 80 pixels long; the result will be coarse.",)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(900, 700, (10, 60, 880, 300)), (200, 900, (50, 3, 150, 890)), (64, 64, (20, 30, 43, 38))],
)
def test_the_longer_extent_fills_its_share_and_is_centred(height: int, width: int, box: tuple[int, ...]) -> None:
    framed = frame_foreground(*scene(height, width, box), size=512, fill=0.85)
    rows, columns = np.flatnonzero(framed.mask.any(1)), np.flatnonzero(framed.mask.any(0))
    extents = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert abs(max(extents) - 0.85 * 512) <= 2
    assert abs(rows[0] + rows[-1] - 511) <= 2
    assert abs(columns[0] + columns[-1] - 511) <= 2
    assert (
        abs(min(extents) / max(extents) - min(box[2] - box[0], box[3] - box[1]) / max(box[2] - box[0], box[3] - box[1]))
        < 0.02
    )


@pytest.mark.parametrize("box", [(100, 50, 900, 610), (31, 40, 60, 52)])
def test_nothing_of_the_old_background_gets_in(box: tuple[int, int, int, int]) -> None:
    rgb, alpha = scene(1000, 700, box)
    framed = frame_foreground(rgb, alpha, size=128)
    visible = framed.rgba[..., 3] > 0
    assert framed.rgba[visible][:, 1].max() <= 2  # no green under the alpha
    over_white = framed.rgb.astype(int)
    assert (over_white[..., 1] <= over_white[..., [0, 2]].max(-1) + 2).all()


def test_half_transparent_colours_are_kept_and_mixed_with_the_background() -> None:
    rgb = np.full((100, 100, 3), (200, 100, 50), np.uint8)
    alpha = np.zeros((100, 100), np.uint8)
    alpha[20:80, 20:80] = 255
    alpha[40:60, 40:60] = 51
    framed = frame_foreground(rgb, alpha, size=100, fill=0.6, background=(0, 0, 0))
    assert framed.rgba[50, 50].tolist() == [200, 100, 50, 51]
    assert framed.rgb[50, 50].tolist() == [40, 20, 10]
    assert not framed.mask[50, 50]
    assert framed.rgba[0, 0].tolist() == [0, 0, 0, 0]


def test_an_object_at_the_border_is_noted_and_still_centred() -> None:
    rgb, alpha = scene(200, 300, (0, 100, 180, 300))
    framed = frame_foreground(rgb, alpha, size=256)
    assert any("border (top, right)" in note for note in framed.notes)
    columns = np.flatnonzero(framed.mask.any(0))
    assert abs(columns[0] + columns[-1] - 255) <= 2


def test_an_empty_foreground_and_a_senseless_share_are_refused() -> None:
    rgb, alpha = scene(100, 100, (20, 20, 80, 80))
    with pytest.raises(BadInput, match="empty"):
        frame_foreground(rgb, np.minimum(alpha, 127))
    for fill in (0.0, -1.0, 1.01, float("nan")):
        with pytest.raises(BadInput, match="share"):
            frame_foreground(rgb, alpha, fill=fill)


def test_without_cropping_a_small_object_stays_small_as_published():
    rgb, alpha = np.zeros((400, 600, 3), np.uint8), np.zeros((400, 600), np.uint8)
    alpha[150:250, 300:380] = 255

    def share(**options):
        rows = np.flatnonzero(frame_foreground(rgb, alpha, size=512, **options).mask.any(1))
        return (rows[-1] + 1 - rows[0]) / 512

    assert share() == pytest.approx(0.85, abs=0.005)
    assert share(crop=False) == pytest.approx(0.85 * 100 / 600, abs=0.005), "0.14"
