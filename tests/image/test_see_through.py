"""See-through things: drawn here, with what belongs to them known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kiss3d_cli.image.see_through import make_solid

SIDE = 256
Y, X = np.mgrid[0:SIDE, 0:SIDE]
BODY = (abs(X - 120) < 60) & (abs(Y - 130) < 90)
EYES = ((X - 95) ** 2 + (Y - 80) ** 2 < 64) | ((X - 145) ** 2 + (Y - 80) ** 2 < 64)


def picture(*layers: tuple[np.ndarray, tuple[int, int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Layers of (cover, colour, opacity), the first below; straight colours."""
    rgb, alpha = np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE))
    for cover, color, opacity in layers:
        share = cover * opacity
        total = share + alpha * (1 - share)
        mixed = np.array(color) * share[..., None] + rgb * (alpha * (1 - share))[..., None]
        rgb = mixed / np.maximum(total, 1e-9)[..., None]
        alpha = total
    return rgb.round().astype(np.uint8), (255 * alpha).round().astype(np.uint8)


def soft(where: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(where.astype(np.float64), (0, 0), sigma))


@pytest.mark.parametrize("opacity", [0.1, 0.43])
def test_a_ghost_is_all_of_it(opacity: float) -> None:
    rgb, alpha = picture((BODY, (220, 230, 250), opacity), (EYES, (10, 10, 30), 1.0))
    solid = make_solid(rgb, alpha)
    np.testing.assert_array_equal(solid.alpha >= 128, BODY)
    assert (solid.alpha[BODY] == 255).mean() > 0.99
    (note,) = solid.notes
    assert f"{opacity:.0%}" in note
    assert "opaque" in note


def test_a_fainter_sleeve_and_a_veil_around_something_opaque_stay() -> None:
    sleeve = (abs(X - 200) < 30) & (abs(Y - 130) < 15)
    inside = (abs(X - 120) < 20) & (abs(Y - 150) < 50)
    rgb, alpha = picture(
        (BODY, (240, 240, 250), 0.4), (sleeve & ~BODY, (240, 240, 250), 0.15), (inside, (200, 50, 40), 1.0)
    )
    assert ((make_solid(rgb, alpha).alpha >= 128) != (BODY | sleeve)).sum() <= 4  # two corners of the seam


def test_a_pane_within_a_frame_stays() -> None:
    frame = BODY & ~((abs(X - 120) < 45) & (abs(Y - 130) < 75))
    rgb, alpha = picture((BODY, (200, 220, 230), 0.12), (frame, (90, 60, 30), 1.0))
    np.testing.assert_array_equal(make_solid(rgb, alpha).alpha >= 128, BODY)


@pytest.mark.parametrize("kind", ["soft shadow", "flat shadow", "glow", "feather"])
def test_a_shadow_and_a_glow_are_not_the_object(kind: str) -> None:
    floor = ((X - 120) / 90) ** 2 + ((Y - 215) / 25) ** 2 < 1
    around = ((X - 120) / 90) ** 2 + ((Y - 130) / 115) ** 2 < 1
    below = {
        "soft shadow": (soft(floor, 9), (0, 0, 0), 0.45),
        "flat shadow": (floor, (0, 0, 0), 0.3),
        "glow": (soft(around, 12), (255, 240, 120), 0.45),
        "feather": (soft(BODY, 1.0), (200, 60, 40), 1.0),
    }[kind]
    rgb, alpha = picture(below, (BODY, (200, 60, 40), 1.0))
    solid = make_solid(rgb, alpha)
    np.testing.assert_array_equal(solid.alpha, alpha)
    assert solid.notes == ()


def test_a_haze_is_cut_at_half_of_itself() -> None:
    rgb, alpha = picture((soft(BODY, 12), (200, 60, 40), 0.3))
    shown = make_solid(rgb, alpha).alpha >= 128
    assert (shown & BODY).sum() / (shown | BODY).sum() > 0.9


def test_a_large_picture_is_judged_like_a_small_one() -> None:
    rgb, alpha = picture((BODY, (220, 230, 250), 0.43), (EYES, (10, 10, 30), 1.0))
    large = [np.kron(plane, np.ones((6, 6), np.uint8)) for plane in (*rgb.transpose(2, 0, 1), alpha)]
    solid = make_solid(np.stack(large[:3], -1), large[3])
    np.testing.assert_array_equal(solid.alpha >= 128, np.kron(BODY, np.ones((6, 6), bool)))
