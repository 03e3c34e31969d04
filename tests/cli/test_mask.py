"""A cut-out of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kiss3d_cli.core.manifest import read_manifest
from pictures import draw_figure


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return draw_figure(tmp_path / "figure.png", "RGB")


def mask(path: Path, mode: str) -> Path:
    """The right half of the figure, as a grey picture or as an alpha channel."""
    cover = np.array(Image.open(draw_figure(path.with_name("whole.png"))).getchannel("A"))
    cover[:, : cover.shape[1] // 2] = 0
    flat = np.full_like(cover, 90)
    Image.fromarray(cover if mode == "L" else np.dstack([flat, flat, flat, cover])).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_the_mask_wins_over_every_method(mode: str, picture: Path, tmp_path: Path, kiss3d) -> None:
    given = mask(tmp_path / "mask.png", mode)
    answer = kiss3d(
        "run", picture, "--mask", given, "--preset", "draft", "--out", tmp_path, "--until", "preprocess", "--json"
    )
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    assert read_manifest(folder / "preprocess").facts["background_removal"] == "mask"
    assert (folder / "mask.png").read_bytes() == given.read_bytes()
    shown = np.asarray(Image.open(folder / "preprocess" / "mask.png")) > 127
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    cover = np.asarray(Image.open(given).convert("RGBA"))
    cover = (cover[..., 3] if mode == "RGBA" else cover[..., 0]) > 127
    tall, wide = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    expected = (wide[-1] - wide[0] + 1) / (tall[-1] - tall[0] + 1)
    assert (columns[-1] - columns[0] + 1) / (rows[-1] - rows[0] + 1) == pytest.approx(expected, rel=0.02)


def test_a_mask_that_can_t_be_one_is_refused(picture: Path, tmp_path: Path, kiss3d) -> None:
    black = tmp_path / "black.png"
    with Image.open(picture) as shown:
        Image.new("L", shown.size, 0).save(black)
    small = tmp_path / "small.png"
    Image.new("L", (64, 64), 255).save(small)
    for given, cause in ((black, "mask is empty"), (small, "64 x 64"), (tmp_path / "none.png", "no such file")):
        answer = kiss3d(
            "run", picture, "--mask", given, "--preset", "draft", "--out", tmp_path, "--until", "preprocess"
        )
        assert answer.code == 2
        assert cause in answer.err
    assert kiss3d("run", "--mask", small, "--preset", "draft", "--out", tmp_path).code == 2
