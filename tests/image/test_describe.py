from __future__ import annotations

import numpy as np
import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.describe import COLOR_NAMES, describe


def canvas() -> tuple[np.ndarray, np.ndarray]:
    return np.full((200, 200, 3), 255, np.uint8), np.zeros((200, 200), bool)


@pytest.mark.parametrize("name", COLOR_NAMES)
def test_a_plain_box_has_its_own_name(name: str) -> None:
    rgb, mask = canvas()
    mask[50:150, 60:140] = True
    rgb[mask] = COLOR_NAMES[name]
    assert describe(rgb, mask).colors == ((name, 1.0),)


def test_a_drawn_object() -> None:
    rgb, mask = canvas()
    mask[20:180, 80:140] = True
    mask[100:120, 100:120] = False
    rgb[mask] = COLOR_NAMES["red"]
    rgb[20:60, 80:140] = COLOR_NAMES["blue"]
    rgb[170:172, 80:82] = COLOR_NAMES["green"]
    described = describe(rgb, mask)
    assert [name for name, _ in described.colors] == ["red", "blue"]
    assert described.aspect == 60 / 160
    assert described.holes == 1
    assert described.symmetry == 1.0
    assert described.caption == (
        "A single object on a white background, seen from the front, tall and slender. It is mostly red, with blue. "
        "It has a compact, rounded outline and one opening through it, and seems nearly mirror-symmetric."
    )
    assert describe(rgb.copy(), mask.copy()) == described


def test_shape_words_follow_the_silhouette() -> None:
    rgb, mask = canvas()
    mask[90:110, 10:190] = True
    mask[20:110, 10:30] = True
    described = describe(rgb, mask)
    assert described.symmetry < 0.7
    assert described.solidity < 0.6
    assert "asymmetric" in described.caption
    assert "open outline" in described.caption
    assert "as it is tall" not in describe(rgb, mask & (np.arange(200) >= 90)[:, None]).caption


def test_one_pixel_and_none() -> None:
    rgb, mask = canvas()
    with pytest.raises(BadInput, match="empty"):
        describe(rgb, mask)
    mask[5, 6] = True
    assert describe(rgb, mask).colors == (("white", 1.0),)
