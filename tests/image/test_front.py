from __future__ import annotations

import numpy as np
import pytest

from kiss3d_cli.image.front import front_notes, mirror_symmetry


def outline(rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows.split()])


def test_an_outline_by_hand():
    """Cropped to its columns: 5 of 7 pixels of the union are covered by both."""
    mask = outline(
        """
        .....
        .#...
        .###.
        .##..
        """
    )
    mirrored = outline("..... ...#. .###. ..##.")
    expected = (mask & mirrored).sum() / (mask | mirrored).sum()
    assert (mask & mirrored).sum() == 4
    assert mirror_symmetry(mask) == pytest.approx(expected)
    assert mirror_symmetry(mask) == pytest.approx(4 / 8)


@pytest.mark.parametrize("shift", [0, 3, 11])
def test_where_the_object_stands_does_not_matter(shift):
    mask = np.zeros((20, 40), bool)
    mask[4:15, shift : shift + 9] = True
    mask[2:4, shift + 4] = True
    assert mirror_symmetry(mask) == 1
    assert front_notes(mask) == ()
    mask[15:18, shift : shift + 2] = True
    before = mirror_symmetry(mask)
    assert mirror_symmetry(np.roll(mask, 5, 1)) == before < 1


def test_a_turned_object_is_noted():
    mask = np.tril(np.ones((30, 30), bool))
    assert mirror_symmetry(mask) < 0.62
    (note,) = front_notes(mask)
    assert "front" in note


def test_an_empty_outline():
    assert mirror_symmetry(np.zeros((3, 4), bool)) == 0
