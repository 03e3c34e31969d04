"""What a plan says of time, memory and downloads, before anything runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kiss3d_cli.cli.plan import duration
from kiss3d_cli.core import machine
from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.manifest import MANIFEST, read_manifest
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.registry import methods
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.stages import stages


@pytest.fixture
def run(tmp_path: Path, finished_run: dict[str, Any]) -> Path:
    """A finished run whose refine stage took 40 s, the others a second."""
    folder = Path(shutil.copytree(finished_run["run_dir"], tmp_path / "run"))
    for path in folder.glob(f"*/{MANIFEST}"):
        manifest = read_manifest(path.parent)
        seconds = 40.0 if manifest.stage == "refine" else 1.0
        dataclasses.replace(manifest, seconds=seconds, peak_rss_bytes=10**9).write(path.parent)
    return folder


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_method_says_what_it_costs() -> None:
    defaults = configuration.Config({key: setting.default for key, setting in configuration.settings().items()})
    for stage in stages():
        for name, method in stage.methods.items():
            cost = method.cost(defaults.of(method), Surroundings(run=defaults.values))
            assert isinstance(cost, Cost), f"{stage.name}.{name}"
            figures = [value for value in dataclasses.asdict(cost).values() if not isinstance(value, dict)]
            assert min(figures) >= 0, f"{stage.name}.{name}"
            assert max(figures) > 0 or method.settings.__name__ == "Expanded", f"{stage.name}.{name}"


@pytest.mark.parametrize(
    ("stage", "name", "setting", "field"),
    [
        ("multiview", "zero123plus", "multiview.steps=99", "flops"),
        ("multiview", "zero123plus", "multiview.tile=1024", "flops"),
        ("caption", "florence2", "caption.beams=1", "host_seconds"),
        ("caption", "florence2", "caption.text=a fox", "loaded"),
        ("caption", "florence2", "caption.expand=true", "loaded"),
        ("bundle", "flux", "bundle.steps=60", "traffic"),
        ("bundle", "flux", "bundle.model=schnell", "prepared"),
        ("bundle", "redux", "bundle.strength=1", "flops"),
        ("refine", "isomer", "refine.steps=500", "traffic"),
        ("refine", "isomer", "refine.texture_size=8192", "host_seconds"),
    ],
)
def test_costs_follow_the_settings(stage: str, name: str, setting: str, field: str) -> None:
    method = methods()[stage][name]
    layer = configuration.settings_layer([setting])
    usual, more = (configuration.load(*layers) for layers in ((), (layer,)))
    before, after = (
        getattr(method.cost(config.of(method), Surroundings(run=config.values)), field) for config in (usual, more)
    )
    assert before != after


def test_a_plan_of_a_re_run_says_what_is_done_again_and_what_it_takes(kiss3d: Any, run: Path) -> None:
    before = files_of(run)
    answer = kiss3d("resume", run, "--set", "refine.target_faces=333", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    stages = {stage["name"]: stage for stage in answer.json["stages"]}
    assert stages["multiview"]["action"] == "skip"
    assert stages["multiview"]["seconds"] == 0
    assert stages["refine"]["reason"].startswith("refine.target_faces changed from")
    assert stages["refine"]["seconds"] == 40, "the same work took so long before"
    assert stages["check"]["action"] == "check"
    told = answer.json["estimate"]
    assert told["seconds"] == 46  # and six of imports
    assert told["most_seconds"] == 47
    assert told["memory_bytes"] == 10**9
    assert told["download_bytes"] == 0
    assert answer.json["run_dir"] == str(run.resolve())
    assert files_of(run) == before


def test_a_changed_setting_scales_what_the_stage_took_before(kiss3d: Any, run: Path) -> None:
    def seconds(*settings: str) -> float:
        options = [part for setting in settings for part in ("--set", setting)]
        answer = kiss3d("resume", run, *options, "--dry-run", "--json")
        (found,) = (stage for stage in answer.json["stages"] if stage["name"] == "refine")
        assert found["action"] == "run"
        assert settings[0].partition("=")[0] in found["reason"]
        return found["seconds"]

    assert seconds("refine.target_faces=333") == 40, "which its cost does not depend on"
    assert 40 < seconds("refine.texture_size=4096") < seconds("refine.texture_size=8192")


def test_a_run_of_another_machine_says_nothing_of_this_one(
    kiss3d: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "measured", lambda _device: machine.Measured(1e15, 1e15, 1e15))
    other = DeviceInfo("cpu", "Another CPU", "test")
    monkeypatch.setattr("kiss3d_cli.core.device.resolve", lambda *_arguments: other)
    answer = kiss3d("resume", run, "--from", "refine", "--dry-run", "--json")
    (refine,) = (stage for stage in answer.json["stages"] if stage["name"] == "refine")
    assert 0 < refine["seconds"] < 20


def test_resume_tells_its_plan_before_it_works(kiss3d: Any, run: Path) -> None:
    answer = kiss3d("resume", run, "--set", "refine.target_faces=333", "--until", "refine")
    assert answer.code == 0, answer.err
    told = answer.err[: answer.err.index("done in") if "done in" in answer.err else None]
    assert "refine       run    refine.target_faces changed from" in told
    assert "(about 40 s)" in told
    assert "in all: about 46 s; up to 0.9 GiB of memory (on CPU)" in told
    again = kiss3d("resume", run, "--until", "refine")
    assert "in all" not in again.err, "nothing is left to do"


def test_a_download_is_told_before_it_is_asked_for(kiss3d: Any, run: Path, tmp_path: Path) -> None:
    settings = ("--set", f"models.root={tmp_path}", "--set", "bundle.method=flux", "--set", "device.name=cpu")
    answer = kiss3d("resume", run, *settings, "--dry-run")
    assert answer.code == 0, answer.err
    assert "missing: flux-dev from Comfy-Org/flux1-dev (17.2 GB; FLUX.1 [dev] Non-Commercial)" in answer.out
    assert "to download first: 25.2 GB; 15.3 GB more are written beside them once" in answer.out
    assert "bundle       flux         run    its method changed from reference to flux (about" in answer.out
    record = kiss3d("resume", run, *settings, "--dry-run", "--json").json
    assert record["estimate"]["download_bytes"] == 25_203_000_000
    assert kiss3d("resume", run, *settings).code == 3, "and the run itself refuses, as it did"
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["bundle"]["method"] == "reference"


def test_rates_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def measure(_device: DeviceInfo, seconds: float = 0) -> machine.Measured:
        asked.append(seconds)
        return machine.Measured(1e10, 2e10, 3e10)

    monkeypatch.setattr(machine, "measure", measure)
    device = DeviceInfo("cpu", "A CPU of this test", "test")
    for _ in range(2):
        machine._measured.cache_clear()
        assert machine.measured(device) == machine.Measured(1e10, 2e10, 3e10)
    assert len(asked) == 1
    (kept,) = (tmp_path / "kiss3d-cache" / "rates").iterdir()
    kept.write_text('{"matrix": "much"}', encoding="utf-8")
    machine._measured.cache_clear()
    assert machine.measured(device) == machine.Measured(1e10, 2e10, 3e10)
    assert len(asked) == 2, "what is damaged is measured anew"
    machine._measured.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (40.4, "40 s"), (89, "89 s"), (120, "2 min"), (36000, "10.0 h")]
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
