from __future__ import annotations

import pytest

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline import config
from kiss3d_cli.pipeline.config import Config, Layer, load, preset_layer, settings_layer


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_loads(preset):
    assert isinstance(load(preset_layer(preset)), Config)


def test_presets_hold_the_published_setting_and_what_12_gb_need():
    quality, small, fast = (load(preset_layer(name)) for name in ("quality", "12gb", "fast"))
    assert (quality["multiview.steps"], quality["bundle.steps"], quality["bundle.tile"]) == (50, 20, 512)
    assert (small["multiview.steps"], small["bundle.steps"], small["bundle.tile"]) == (24, 14, 320)
    assert small["device.memory_limit"] == 12
    assert fast["bundle.model"] == "schnell"


def test_later_layers_win():
    loaded = load(Layer("file", {"refine": {"steps": 3}}), settings_layer(["refine.steps=4", "seed=0"]))
    assert (loaded["refine.steps"], loaded["seed"]) == (4, 0)


def test_every_fault_is_told_at_once():
    layers = [
        Layer("my.yaml", {"refine": {"stepz": 3, "steps": "many"}, "nothing": 1}),
        settings_layer(["seed=-1", "camera.radius=.nan", "bundle.method=flx", "device.name=${oc.env:HOME}"]),
    ]
    with pytest.raises(BadInput) as caught:
        load(*layers)
    assert caught.value.cause.splitlines() == [
        "7 settings are wrong",
        "  - refine.stepz (my.yaml): no such setting (did you mean 'refine.steps'?)",
        "  - refine.steps (my.yaml): 'many' is not a whole number from 0 to 1000",
        "  - nothing (my.yaml): no such setting",
        "  - seed (--set): -1 is not a whole number from 0 to 2^63 - 1",
        "  - camera.radius (--set): '.nan' is not a number from 2.1 to 100",
        "  - bundle.method (--set): 'flx' is not one of: reference, flux, redux, enhance, text, file",
        "  - device.name (--set): interpolation is not supported",
    ]


def test_a_section_is_not_a_setting():
    with pytest.raises(BadInput, match="this is a section"):
        load(settings_layer(["camera=3"]))


def test_lists_of_one_length():
    with pytest.raises(BadInput, match=r"bundle.control_scales: 1 for 2 controls"):
        load(settings_layer(["bundle.controls=[tile, depth]"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("bundle.controls=[tyle]", r"no control 'tyle' \(did you mean 'tile'\?\)"),
        ("bundle.controls=[pose]", "no control 'pose'"),
        ("bundle.control_starts=[0.65]", "bundle.control_ends: the control 'tile' would end at 0.65"),
        ("bundle.tile=132", "bundle.tile: flux needs a multiple of 8, for example 128, not 132"),
        ("multiview.tile=144", "multiview.tile: zero123plus needs a multiple of 32, for example 128, not 144"),
    ],
)
def test_what_the_networks_can_not_follow_is_told_before_any_work(setting, message):
    with pytest.raises(BadInput, match=message):
        load(preset_layer("12gb"), settings_layer([setting]))
    load(preset_layer("draft"), settings_layer(["multiview.tile=144", "bundle.tile=132"]))


@pytest.mark.parametrize(
    ("text", "match"),
    [("refine.steps", "key=value"), ("=3", "key=value"), ("refine..steps=3", "key=value")],
)
def test_malformed_assignments(text, match):
    with pytest.raises(BadInput, match=match):
        settings_layer([text])


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(BadInput):
        config.file_layer(path)


def test_a_setting_survives_the_round_trip_through_json():
    loaded = load(
        preset_layer("fast"),
        settings_layer(
            ["bundle.controls=[tile,canny]", "caption.text='a: b'"]
            + [f"bundle.control_{name}=[0.{i}, 0.{i + 1}]" for i, name in enumerate(("scales", "starts", "ends"))]
        ),
    )
    assert load(Layer("again", config.to_dict(loaded))) == loaded
    assert loaded["caption.text"] == "a: b"


def test_every_setting_has_its_sentence():
    for setting in config.settings().values():
        assert setting.help.endswith("."), setting.key
