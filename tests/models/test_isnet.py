from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from checkpoints import isnet as stand_in
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.image.matting import require_foreground
from kiss3d_cli.models.isnet.network import FILE, IsNet

pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tiny_models):
    return tiny_models / stand_in.REPOSITORY


def drawn(width=90, height=70) -> np.ndarray:
    rgb = np.full((height, width, 3), 255, np.uint8)
    rgb[20:60, 10:40] = (30, 60, 90)
    return rgb


def test_the_dark_rectangle_is_the_object(folder):
    rgb = drawn()
    alpha = IsNet(folder)(rgb)
    expected = rgb[..., 0] < 128
    assert alpha.shape == (70, 90)
    assert ((alpha >= 128) == expected).mean() > 0.995
    assert alpha[30:50, 15:35].min() > 250
    assert alpha[:10].max() < 5


def test_the_computation_is_that_of_rembg(tmp_path):
    """Step by step, with a network that passes red on: the brightest value is 1, less 0.5; the result fills 0..255."""
    (tmp_path / FILE).write_bytes(stand_in.model((2.0, 0.0, 0.0), 0.0))
    rgb = np.random.default_rng(0).integers(0, 200, (50, 40, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(rgb).resize((1024, 1024), Image.Resampling.LANCZOS)).astype(np.float64)
    probability = 1 / (1 + np.exp(-2 * (big[..., 0] / big.max() - 0.5)))
    stretched = (probability - probability.min()) / np.ptp(probability)
    levels = Image.fromarray((stretched * 255).astype(np.uint8))
    expected = np.asarray(levels.resize((40, 50), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(IsNet(tmp_path)(rgb) - expected).max() <= 1


def test_a_picture_without_an_object_mattes_to_nothing(folder):
    for value in (255, 250):
        alpha = IsNet(folder)(np.full((40, 40, 3), value, np.uint8))
        assert not alpha.any()
        with pytest.raises(BadInput, match="the foreground is empty") as caught:
            require_foreground(alpha, "give another one")
        assert caught.value.hint == "give another one"


def test_noise_is_not_stretched_to_an_object(tmp_path):
    (tmp_path / FILE).write_bytes(stand_in.model((0.1, 0.0, 0.0), -6.0))
    assert not IsNet(tmp_path)(drawn()).any()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 100])
def test_damaged_weights_are_named(folder, tmp_path, damage):
    (tmp_path / FILE).write_bytes(damage((folder / FILE).read_bytes()))
    with pytest.raises(Missing, match="can't be read") as caught:
        IsNet(tmp_path)(drawn())
    assert caught.value.place == str(tmp_path / FILE)
    assert caught.value.hint == "get the file again: kiss3d models pull isnet"


def test_no_weights(tmp_path):
    with pytest.raises(Missing, match="can't be read"):
        IsNet(tmp_path)(drawn())


def test_no_onnxruntime(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Missing, match="not installed") as caught:
        IsNet(folder)(drawn())
    assert caught.value.hint == "pip install 'kiss3d[matting]', or use --set preprocess.method=grabcut"
