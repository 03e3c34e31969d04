from __future__ import annotations

import cv2
import numpy as np
import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.matting import _reproducible, border_saliency, cut_out


def shapes(height: int, width: int) -> np.ndarray:
    """The truth: a disc with a bar, no symmetry, (H, W) bool."""
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    disc = (x - 0.45) ** 2 + (y - 0.55) ** 2 < 0.25**2
    return disc | ((abs(x - 0.75) < 0.12) & (abs(y - 0.45) < 0.06))


def scene(kind: str, height: int = 360, width: int = 420) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = shapes(height, width)
    y, x = np.mgrid[0:height, 0:width]
    ground = {
        "plain": np.full((height, width, 3), 230.0),
        "gradient": np.stack([90 + 0.2 * x, 110 + 0.2 * y, np.full_like(x, 140.0)], -1),
        "clutter": cv2.resize(rng.uniform(40, 200, (9, 9, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        * np.array([0.4, 1.0, 0.5]),
    }[kind]
    object_color = np.where((x[..., None] + y[..., None]) // 40 % 2 == 0, [205.0, 50.0, 60.0], [235.0, 140.0, 150.0])
    rgb = np.where(truth[..., None], object_color, ground) + rng.normal(0, 4, (height, width, 3))
    return rgb.clip(0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("kind", ["plain", "gradient", "clutter"])
def test_the_object_is_found(kind: str) -> None:
    rgb, truth = scene(kind)
    mask = cut_out(rgb).alpha >= 128
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95


def test_it_works_above_and_below_its_own_size() -> None:
    for height, width in ((60, 75), (1300, 1100)):
        rgb, truth = scene("plain", height, width)
        mask = cut_out(rgb).alpha >= 128
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads() -> None:
    rgb, _ = scene("clutter")
    threads = cv2.getNumThreads()
    try:
        results = []
        for count in (1, 2, 2):
            cv2.setNumThreads(count)
            cv2.setRNGSeed(count)
            results.append(cut_out(rgb, seed=7).alpha.tobytes())
            assert cv2.getNumThreads() == count
    finally:
        cv2.setNumThreads(threads)
    assert len(set(results)) == 1


def test_the_generator_behind_the_clusters_starts_from_the_seed() -> None:
    draws = []
    for seed in (0, 0, 5):
        cv2.setRNGSeed(99 + len(draws))
        with _reproducible(seed):
            draws.append(cv2.randu(np.zeros(8), 0.0, 1.0).tolist())
    assert draws[0] == draws[1] != draws[2]


def test_only_the_largest_of_several_objects_is_kept() -> None:
    rgb, truth = scene("plain")
    rgb[20:50, 20:50] = (200, 40, 50)
    mask = cut_out(rgb).alpha >= 128
    assert not mask[15:55, 15:55].any()
    assert (mask & truth).sum() / truth.sum() > 0.95


def test_an_opening_stays_open_and_a_pinhole_is_filled() -> None:
    rgb, _ = scene("plain")
    rgb[170:230, 130:190] = 230
    rgb[250, 200] = 230
    mask = cut_out(rgb).alpha >= 128
    assert not mask[180:220, 140:180].any()
    assert mask[250, 200]


def test_the_edge_is_soft_in_a_narrow_band_alone() -> None:
    rgb, truth = scene("plain")
    soft = cv2.GaussianBlur(rgb, (0, 0), 1.5)
    alpha = cut_out(soft).alpha
    band = cv2.dilate(truth.astype(np.uint8), np.ones((13, 13))) != cv2.erode(truth.astype(np.uint8), np.ones((13, 13)))
    between = (alpha > 10) & (alpha < 245)
    assert between.sum() > 50
    assert not (between & ~band).any()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_picture_has_no_foreground(value: int) -> None:
    with pytest.raises(BadInput, match="empty") as caught:
        cut_out(np.full((200, 300, 3), value, np.uint8))
    assert caught.value.hint


def test_faint_noise_has_no_foreground() -> None:
    noise = np.random.default_rng(0).normal(128, 2, (200, 300, 3)).astype(np.uint8)
    with pytest.raises(BadInput, match=r"empty|fills"):
        cut_out(noise)


def test_an_object_that_fills_the_picture_is_refused() -> None:
    rgb = np.full((300, 300, 3), (200, 30, 30), np.uint8)
    rgb[3:-3, 3:-3] = (20, 60, 200)
    with pytest.raises(BadInput, match="fills the picture"):
        cut_out(rgb)


def test_saliency_is_highest_on_the_object() -> None:
    rgb, truth = scene("gradient")
    saliency = border_saliency(rgb)
    assert saliency[truth].mean() > 5 * saliency[~truth].mean()
