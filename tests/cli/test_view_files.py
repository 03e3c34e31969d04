"""A bundle that is given as single pictures: the same run as from the one picture of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.cli.views_option import repeated
from kiss3d_cli.image.bundle import Bundle, join_bundle

NAMES = ("front", "right", "back", "left")
SIZE = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`bundle.png` and its tiles: `front.png`, `front_normal.png` and so on."""
    root = tmp_path_factory.mktemp("views")
    solids = [
        Ellipsoid((0.1, -0.3, 0.0), (0.5, 0.5, 0.3)),
        Ellipsoid((-0.1, 0.3, 0.35), (0.3, 0.35, 0.45)),
        Ellipsoid((0.4, -0.3, -0.4), (0.15, 0.2, 0.4)),
    ]  # of which every side shows something else
    views = cast(solids, SIZE)
    rgb = views.mask[..., None] * (0.2 + 0.5 * views.normals.abs())
    picture = join_bundle(Bundle(rgb, views.normals, views.mask))
    Image.fromarray(picture).save(root / "bundle.png")
    for row, ending in enumerate(("", "_normal")):
        for column, name in enumerate(NAMES):
            tile = picture[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
            Image.fromarray(tile).save(root / f"{name}{ending}.png")
    return root


def given(folder: Path, ending: str = "", names: tuple[str, ...] = NAMES) -> list[str]:
    return [f"{name}={folder / name}{ending}.png" for name in names]


def test_single_views_give_the_run_of_their_bundle(kiss3d, tmp_path, folder):
    rest = ("--preset", "draft", "--until", "bundle", "--out", tmp_path, "--json")
    # several values after one option, and an option for each; in another order, and one by its degrees
    normals = [word for value in reversed(given(folder, "_normal")) for word in ("--normals", value)]
    views = [value.replace("right=", "90=") for value in given(folder)]
    single = kiss3d("run", "--views", *views, *normals, *rest)
    whole = kiss3d("run", "--bundle", folder / "bundle.png", *rest)
    assert single.code == whole.code == 0, single.err + whole.err
    runs = [Path(answer.json["run_dir"]) for answer in (single, whole)]
    assert len({(run / "bundle" / "bundle.png").read_bytes() for run in runs}) == 1
    record = json.loads((runs[0] / "run.json").read_text(encoding="utf-8"))
    assert record["name"] == "front"
    source = record["inputs"]["bundle"]["source"]
    assert all(part in source for part in (*views, *given(folder, "_normal")))
    assert (runs[0] / "bundle.png").is_file()


def test_a_view_is_checked_as_a_bundle_is(kiss3d, tmp_path, folder):
    white = tmp_path / "white.png"
    Image.fromarray(np.full((SIZE, SIZE, 3), 255, np.uint8)).save(white)
    normals = [f"left={white}" if value.startswith("left") else value for value in given(folder, "_normal")]
    answer = kiss3d(
        "run", "--views", *given(folder), "--normals", *normals, "--preset", "draft", "--out", tmp_path / "o"
    )
    assert answer.code == 2
    assert "--views: the left view shows no object" in answer.err
    assert not (tmp_path / "o").exists()


def test_exchanged_sides_are_named(kiss3d, tmp_path, folder):
    exchanged = dict(zip(NAMES, ("front", "left", "back", "right"), strict=True))
    options = [
        [f"{name}={folder / exchanged[name]}{ending}.png" for name in NAMES] for ending in ("", "_normal")
    ]  # fmt: skip
    answer = kiss3d("run", "--views", *options[0], "--normals", *options[1], "--preset", "draft", "--until", "bundle",
                    "--out", tmp_path)  # fmt: skip
    assert answer.code == 0
    assert "bundle.swap_sides=true" in answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--views", "FRONT", "RIGHT"], "front, right without normals are no set of views"),
        (["--views", "FRONT", "RIGHT", "BACK", "LEFT", "--normals", "FRONT"], "right, back, left: a view without a"),
        (["--views", "FRONT", "top=a.png"], "'top' is no view"),
        (["--views", "FRONT", "0=a.png"], "'0' is given twice"),
        (["--views", "FRONT", "front=a.png"], "'front' is given twice"),
        (["--views=front"], "'front' is not VIEW=FILE"),
        (["--normals", "FRONT"], "there are normals and no views"),
        (["PICTURE", "--views", "FRONT", "RIGHT", "BACK", "LEFT"], "both a PICTURE and --views"),
        (["--views", "FRONT", "RIGHT", "BACK", "LEFT", "--bundle", "b.png"], "both --bundle and --views"),
        (["--views", "FRONT", "RIGHT", "BACK", "LEFT", "--right", "a.png"], "both --views and --right"),
        (["--views", "FRONT", "RIGHT", "BACK", "left=nowhere.png"], "nowhere.png"),
        (["--views", "FRONT", "RIGHT", "BACK", "left=WIDE"], "192 x 96 pixels, not square"),
        (["--views", "FRONT", "RIGHT", "BACK", "left=LARGE"], "it is 128 pixels wide, and front.png is 96"),
    ],
)
def test_what_is_no_set_of_views_is_refused(kiss3d, tmp_path, folder, picture, options, words):
    files = {name.upper(): f"{name}={folder / name}.png" for name in NAMES} | {"PICTURE": str(picture)}
    for name, size in (("WIDE", (192, 96)), ("LARGE", (128, 128))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        files[f"left={name}"] = f"left={tmp_path / name}.png"
    answer = kiss3d("run", *(files.get(word, word) for word in options), "--preset", "draft", "--out", tmp_path / "o")
    assert answer.code == 2
    assert words in answer.err
    assert "  try: " in answer.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--views a=1 b=2 c=3", "--views a=1 --views b=2 --views c=3"),
        ("--views a=1 b=2 --set x=3 y=4", "--views a=1 --views b=2 --set x=3 y=4"),
        ("--views=a=1 b=2 --normals a=1 b=-2", "--views=a=1 --views b=2 --normals a=1 --normals b=-2"),
        ("--views a=1 picture.png b=2", "--views a=1 picture.png b=2"),
        ("--views a=1 -- b=2", "--views a=1 -- b=2"),
        ("picture.png --seed 1", "picture.png --seed 1"),
    ],
)
def test_values_of_one_option(words, expected):
    assert repeated(words.split()) == expected.split()
