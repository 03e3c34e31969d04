"""What is chosen for the user: the preset, the newest run, the meaning of a setting's text."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest
import toy

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline import choices, launch, status
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.dataset import find_jobs
from kiss3d_cli.pipeline.many_runs import _is_done
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs
from pictures import draw_figure


def text_of(key: str, text: str) -> object:
    return configuration.load(configuration.settings_layer([f"{key}={text}"]))[key]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a fox: red", "a fox: red"),
        ("[a fox", "[a fox"),
        ("{x}", "{x}"),
        ("a fox # red", "a fox # red"),
        ("1e3", "1e3"),
        ("yes", "yes"),
        ("2020-01-01", "2020-01-01"),
        ("*fox", "*fox"),
        ('"a fox"', "a fox"),
        ("'a fox'", "a fox"),
        ('"a fox', '"a fox'),
        ("null", None),
    ],
)
def test_a_text_is_taken_as_it_is(given, meant):
    assert text_of("caption.text", given) == meant


def test_numbers_are_still_numbers():
    assert text_of("refine.steps", "80") == 80
    assert text_of("refine.betas", "[0.8, 0.8, 0.0]") == (0.8, 0.8, 0.0)


@pytest.mark.parametrize("key", ["." * 3000, "a" + ".a" * 3000, "x" * 5000, "refine" + ".x" * 8])
def test_keys_that_can_not_be(key):
    with pytest.raises(BadInput) as caught:
        configuration.load(configuration.settings_layer([f"{key}=1"]))
    assert caught.value.exit_code == 2


def test_views_and_devices_of_thousands_of_digits(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "models" / "fox" / "meshes").mkdir(parents=True)
    (tmp_path / "images" / "fox_0.png").write_text("x")
    (tmp_path / "models" / "fox" / "meshes" / "model.obj").write_text("x")
    assert [job.name for job in find_jobs(tmp_path, "fox", "0")] == ["fox_0"]
    with pytest.raises(BadInput, match="has no view"):
        find_jobs(tmp_path, "fox", "9" * 5000)
    for name in ("cuda:" + "9" * 5000, "cuda:²", "cuda:-1", "cuda:0x1"):
        with pytest.raises(BadInput, match="is not a device"):
            devices.resolve(name)


def test_auto_looks_where_the_request_looks(tmp_path, monkeypatch):
    """It took the default device and the hub's cache, whatever `device.name` and `models.root` said."""
    asked = []

    def choose(name, root, comfyui):
        asked.append((name, root))
        return "draft", "a test"

    monkeypatch.setattr(choices, "choose_preset", choose)
    picture = draw_figure(tmp_path / "figure.png")
    own = ("device.name=cpu", f"models.root={tmp_path}")
    launch.prepare(launch.Request({"picture": picture}, settings=own))
    launch.prepare(launch.Request({"picture": picture}))
    assert asked == [("cpu", tmp_path), ("auto", None)]


def test_auto_on_a_cpu_that_was_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choices.choose_preset("cpu") == ("draft", "asked for")


def test_the_newest_run_is_the_one_made_last(tmp_path):
    """Writing a report into an old run made that the newest."""
    runs = []
    for number, when in enumerate(("2025-03-01T00:00:00+00:00", "2025-01-01T00:00:00+02:00", "2025-02-01T00:00:00")):
        place = tmp_path / str(number)
        place.mkdir()
        run = toy.create(place, runs=tmp_path / "runs")
        run.rewrite(dataclasses.replace(run.record(), created=when))
        runs.append(run.path)
    os.utime(runs[1], (time.time() + 60, time.time() + 60))
    assert [run.path for run in find_runs(tmp_path / "runs")] == [runs[0], runs[2], runs[1]]
    (runs[0] / "run.json").write_text("{")
    assert {run.path for run in find_runs(tmp_path / "runs")} == set(runs), "a damaged one is still found"


def test_until_counts_when_a_data_set_is_run_again(tmp_path, monkeypatch):
    folder = toy.create(tmp_path)
    monkeypatch.setattr(launch, "stages", lambda: toy.STAGES)
    toy.run(folder, until="caption")
    assert _is_done(folder, "caption")
    assert not _is_done(folder, None)


def test_status_hashes_each_artifact_once(tmp_path, monkeypatch):
    folder = toy.create(tmp_path)
    toy.run(folder)
    monkeypatch.setattr(launch, "stages", lambda: toy.STAGES)
    monkeypatch.setattr(status, "stages", lambda: toy.STAGES)
    looked = []
    inspect = RunFolder.inspect
    monkeypatch.setattr(RunFolder, "inspect", lambda self, stage: (looked.append(stage.name), inspect(self, stage))[1])
    status.read_status(folder)
    assert looked == [stage.name for stage in toy.STAGES]


def test_why_a_stage_is_off_says_what_the_user_can_do(tmp_path):
    """It named the file that another stage did not make."""
    picture = draw_figure(tmp_path / "figure.png")

    def reason(stage, *settings):
        request = launch.Request({"picture": picture}, preset="draft", settings=settings)
        return next(step.reason for step in launch.prepare(request).plan if step.stage.name == stage)

    assert reason("place") == "no --mesh was given"
    without = ("reference.method=none", "bundle.method=redux")
    assert reason("reference", *without) == "switched off by reference.method=none"
    with pytest.raises(BadInput) as caught:
        reason("refine", "multiview.method=zero123plus")
    assert "reference is off: only multiview.method=inflate, prior or lvsm makes surface.ply" in caught.value.cause
