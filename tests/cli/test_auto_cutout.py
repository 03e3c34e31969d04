"""`preprocess.method: auto`: IS-Net where it is there, GrabCut where not, and the record says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline import requirements
from kiss3d_cli.pipeline.choices import settled
from kiss3d_cli.pipeline.requirements import needed_models
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.report.run_view import _changed


def draft(*settings: str) -> configuration.Config:
    return configuration.load(configuration.preset_layer("draft"), configuration.settings_layer(settings))


def place(monkeypatch: pytest.MonkeyPatch, *, package: bool, weights: bool, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: object() if package else None)
    found = {"isnet": Located(tmp_path, "0" * 64)} if weights else {}
    monkeypatch.setattr(requirements.store, "find_all", lambda names, *_: {n: found[n] for n in names if n in found})


@pytest.mark.parametrize(("package", "weights"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_network_is_taken_only_where_all_of_it_is_there(
    package: bool, weights: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place(monkeypatch, package=package, weights=weights, tmp_path=tmp_path)
    assert settled(draft())["preprocess.method"] == ("rembg" if package and weights else "grabcut")


def test_what_is_asked_for_by_name_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place(monkeypatch, package=True, weights=True, tmp_path=tmp_path)
    assert settled(draft("preprocess.method=grabcut"))["preprocess.method"] == "grabcut"


def test_pulling_draft_gets_the_network() -> None:
    assert needed_models(draft()) == ["isnet"]


def test_a_run_records_who_stood_in(finished_run: dict[str, str]) -> None:
    record = (Path(finished_run["run_dir"]) / "run.json").read_text(encoding="utf-8")
    assert '"method": "grabcut"' in record
    assert '"method": "auto"' not in record
    assert "preprocess.method" not in _changed(RunFolder(Path(finished_run["run_dir"])).record())
