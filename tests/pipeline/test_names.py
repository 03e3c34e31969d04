"""Names of runs and of copied inputs, from whatever a file is called."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from kiss3d_cli.pipeline.names import picture_name, run_name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("हिन्दी चित्र", "हिन्दी-चित्र"),
        ("ภาพถ่าย", "ภาพถ่าย"),
        ("u\u0308ber", "über"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),
        ("a b/c..", "a-b-c"),
        ("...", "run"),
        ("\u200d", "run"),
    ],
)
def test_letters_keep_their_marks(given: str, expected: str) -> None:
    assert run_name(given) == expected
    assert unicodedata.is_normalized("NFC", run_name(given))


@pytest.mark.parametrize("letter", ["𝒜", "x", "क्षि", "ภู่", "q\u0323\u0307"])
def test_a_long_name_is_cut_by_bytes_and_not_within_a_letter(letter: str, tmp_path: Path) -> None:
    name = run_name(letter * 60)
    assert 0 < len(name.encode()) <= 120
    assert (letter * 60).startswith(name) or name == unicodedata.normalize("NFC", letter * 60)[: len(name)]
    rest = unicodedata.normalize("NFC", letter * 60)[len(name) :]
    assert not rest or unicodedata.category(rest[0])[0] != "M"
    (tmp_path / f".{name}-20260101-000000-1234567.partial").mkdir()


@pytest.mark.parametrize(
    ("name", "kind", "copy"),
    [
        ("photo.png (1)", "PNG", "input.png"),
        ("x.png~", "PNG", "input.png"),
        ("x.png?raw=true", "JPEG", "input.jpg"),
        ("no suffix", "WEBP", "input.webp"),
    ],
)
def test_a_picture_of_any_name_makes_a_run_that_its_reader_takes(
    name: str, kind: str, copy: str, tmp_path: Path
) -> None:
    from kiss3d_cli.pipeline.launch import Request, open_run, prepare

    picture = tmp_path / name
    Image.new("RGB", (64, 64), (200, 30, 40)).save(picture, kind)
    folder = open_run(prepare(Request(inputs={"picture": picture}, preset="draft", out=tmp_path / "out")))
    record = folder.record()
    assert record.inputs["picture"].path == copy
    assert (folder.path / copy).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("robot/picture.png", "robot-picture"),
        ("data/fox/Image.JPG", "fox-Image"),
        ("picture.png", "picture"),
        ("../picture.png", "picture"),
        ("robot/robot.png", "robot"),
        ("/picture.png", "picture"),
    ],
)
def test_a_generic_picture_is_called_by_its_folder_too(path, name):
    assert picture_name(Path(path)) == name
