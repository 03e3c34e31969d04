"""View synthesis as a method of the multiview stage, with tiny weights of no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from cli.conftest import call
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.image.png import read_png
from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.weights import export

S = 32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    """A block, wide and red from the front, narrow and blue from the right."""
    folder = tmp_path_factory.mktemp("block")
    found = {}
    for name, half, color in (("front", 60, (200, 30, 30, 255)), ("right", 25, (30, 30, 200, 255))):
        image = Image.new("RGBA", (192, 192), (255, 255, 255, 0))
        ImageDraw.Draw(image).rectangle((96 - half, 40, 95 + half, 150), fill=color)
        found[name] = folder / f"{name}.png"
        image.save(found[name])
    return found


def weights(folder: Path, *, says: float | None = None) -> Path:
    """Of a network that answers with what is guessed; or, shown no hull, with white less `says`, and a full mask."""
    torch.manual_seed(0)
    network = Lvsm(LvsmConfig(KINDS[0], S, 8, 32, 2, 1, 1, 8, carved=says is None))
    if says is not None:
        bias = torch.zeros(4, 64)
        bias[:3], bias[3] = -says, 1.0
        network.head.bias = nn.Parameter(bias.flatten())
    path = folder / "lvsm.safetensors"
    export(path, network.config, network.state_dict())
    return path


def run(out: Path, path: Path, *options: object, method: str = "lvsm"):
    answer = call(
        "run", *options, "--preset", "draft", "--until", "multiview", "--out", out, "--json",
        "--set", f"multiview.method={method}", "--set", f"multiview.weights={path}", "--set", "multiview.tile=128",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"]) / "multiview"
    return folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_from_one_picture_the_network_corrects_the_inflated_views(pictures, tmp_path):
    folder, manifest = run(tmp_path, weights(tmp_path), pictures["front"])
    written = {path.name for path in folder.iterdir()}
    assert {"grid.png", "front.png", "right.png", "back.png", "left.png", "surface.ply", "drawn.png"} <= written
    assert manifest["facts"]["drawn"] == ["right", "back", "left"]
    assert read_png(folder / "drawn.png").shape == (S, 3 * S, 3)
    # this one corrects nothing: what it draws is the guess, red on white
    back = read_png(folder / "back.png").astype(int)
    shown = back.min(-1) < 200
    assert shown.mean() > 0.1
    assert np.abs(back[shown] - [200, 30, 30]).mean() < 12
    mesh = read_mesh(folder / "surface.ply")
    assert mesh.colors is not None


def test_given_sides_stay_and_the_others_are_drawn(pictures, tmp_path):
    path = weights(tmp_path, says=0.6)
    folder, manifest = run(tmp_path, path, pictures["front"], "--right", pictures["right"])
    assert manifest["facts"]["given"] == ["front", "right"]
    assert manifest["facts"]["drawn"] == ["back", "left"]
    assert manifest["facts"]["weights"]
    front, back, left = (read_png(folder / f"{name}.png").astype(int) for name in ("front", "back", "left"))
    middle = slice(60, 68)
    assert np.abs(front[middle, middle] - [200, 30, 30]).max() < 12
    # the network says a grey of 0.4, and that everything is the object
    assert np.abs(back[middle, middle] - 102).max() < 8
    assert np.abs(left[middle, middle] - 102).max() < 8
    assert (back[:8] == 255).all(), "outside the surface"


def test_several_pictures_are_shown_with_their_hull(pictures, tmp_path):
    """This network corrects nothing: of the back and the left it draws the hull."""
    folder, _ = run(tmp_path, weights(tmp_path), pictures["front"], "--right", pictures["right"])
    back, left = np.split(read_png(folder / "drawn.png").astype(int), 2, axis=1)
    wide, narrow = ((drawn[S // 2].min(-1) < 200).sum() for drawn in (back, left))
    assert wide / narrow == pytest.approx(120 / 50, rel=0.3)
    for picture in (back, left):  # no picture shows them: their colours are those of the two that are given
        middle = picture[S // 2, S // 2]
        assert min(np.abs(middle - [200, 30, 30]).max(), np.abs(middle - [30, 30, 200]).max()) < 25


def test_without_weights_the_command_that_trains_them_is_said_before_any_work(pictures, tmp_path):
    for options in ((), ("--set", f"multiview.weights={tmp_path / 'nowhere.safetensors'}")):
        answer = call(
            "run", pictures["front"], "--preset", "draft", "--out", tmp_path / "out",
            "--set", "multiview.method=lvsm", *options,
        )  # fmt: skip
        assert answer.code == 3
        assert "kiss3d train lvsm" in answer.err
        assert not list((tmp_path / "out").glob("*/preprocess"))


def test_weights_of_another_network_are_refused_before_any_work(pictures, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    answer = call(
        "run", pictures["front"], "--preset", "draft", "--out", tmp_path / "out",
        "--set", "multiview.method=lvsm", "--set", f"multiview.weights={path}",
    )  # fmt: skip
    assert answer.code == 5
    assert "format" in answer.err
    assert not list((tmp_path / "out").glob("*/preprocess"))
