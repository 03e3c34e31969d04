"""What can't be: units, sizes, targets that do not hold what is asked. Each is one message."""

from __future__ import annotations

import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.options import Options, length
from kiss3d_cli.export.targets import FORMATS, TARGETS
from make_export_table import PAGE, with_table


@pytest.mark.parametrize(
    ("text", "metres"),
    [("80mm", 0.08), (" 8 cm", 0.08), ("0.08m", 0.08), ("2in", 0.0508), ("1 ft", 0.3048), ("3 inches", None),
     ("2 meters", 2.0), ("1e2 MM", 0.1), (".5m", 0.5)],
)  # fmt: skip
def test_lengths_as_one_types_them(text, metres):
    if metres is None:
        with pytest.raises(BadInput, match="not a unit"):
            length(text, "--height")
    else:
        assert length(text, "--height") == pytest.approx(metres)


@pytest.mark.parametrize(
    ("text", "cause"),
    [("80", "has no unit"), ("", "not a length"), ("mm", "not a length"), ("8 furlongs", "not a unit"),
     ("-3mm", "positive"), ("0mm", "positive"), ("1e9m", "no size"), ("1e-9mm", "no size"), ("nan mm", "not a length"),
     ("1e999m", "positive"), ("80 mm tall", "not a length"), ("8,5mm", "not a length")],
)  # fmt: skip
def test_lengths_that_are_none(text, cause):
    with pytest.raises(BadInput, match=cause) as caught:
        length(text, "--height")
    assert caught.value.place == "--height"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"to": "maya"}, "--to"),
        ({"to": "web", "kind": "fbx"}, "--format"),
        ({"to": "web", "kind": "obj"}, "--format"),
        ({"to": "print", "kind": "glb"}, "--format"),
        ({"to": "ar", "up": "z"}, "--up"),
        ({"to": "print", "kind": "3mf", "up": "y"}, "--up"),
        ({"to": "print", "kind": "stl", "up": "y"}, "--up"),
        ({"to": "print", "origin": "center"}, "--origin"),
        ({"to": "print", "height": float("nan")}, "--height"),
        ({"to": "print", "wall": 0.05, "height": 0.08}, "--wall"),
        ({"to": "web", "wall": 0.001}, "--wall"),
        ({"to": "unity", "hollow": True}, "--hollow"),
        ({"to": "blender", "base": True}, "--base"),
        ({"to": "web", "lods": 3}, "--lods"),
        ({"to": "unity", "lods": 99}, "--lods"),
        ({"to": "print", "collision": True}, "--collision"),
        ({"to": "blender", "kind": "stl", "roughness": 0.5}, "--roughness"),
        ({"to": "print", "kind": "obj", "roughness": 0.5}, "--roughness"),
        ({"to": "blender", "kind": "ply", "normal_map": True}, "--normal-map"),
        ({"to": "print", "normal_map": True}, "--normal-map"),
        ({"to": "print", "kind": "obj", "normal_map": True}, "--normal-map"),
        ({"to": "godot", "roughness": 1.5}, "--roughness"),
        ({"to": "godot", "roughness": float("nan")}, "--roughness"),
        ({"to": "unity", "faces": 3}, "--faces"),
        ({"to": "unity", "texture": 1000}, "--texture"),
        ({"to": "unity", "texture": 1 << 20}, "--texture"),
    ],
)
def test_what_a_target_can_not_hold_is_told_by_its_option(asked, place):
    with pytest.raises(BadInput) as caught:
        Options(**asked).check()
    assert caught.value.place == place
    assert caught.value.hint


@pytest.mark.parametrize("to", TARGETS)
def test_every_target_is_possible_in_each_of_its_formats(to):
    for kind in TARGETS[to].formats:
        Options(to=to, kind=kind).check()
    assert set(TARGETS[to].formats) <= set(FORMATS)


def test_the_page_has_the_table_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text
