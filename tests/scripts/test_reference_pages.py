"""The generated pages of docs/reference/ say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import make_reference
from kiss3d_cli.pipeline.config import settings
from kiss3d_cli.pipeline.stages import stages
from reference_pages import commands, run_folder

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def test_the_pages_are_up_to_date() -> None:
    assert make_reference.outdated() == [], "run python scripts/make_reference.py"


def test_a_page_that_was_changed_by_hand_is_noticed(tmp_path) -> None:
    for name, text in make_reference.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert make_reference.outdated(tmp_path) == []
    (tmp_path / "settings.md").write_text("# Settings\n", encoding="utf-8")
    (tmp_path / "commands.md").unlink()
    assert make_reference.outdated(tmp_path) == ["commands.md", "settings.md"]


def test_every_setting_and_every_command_has_its_place() -> None:
    page = (FOLDER / "settings.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (\S+)$", page, re.MULTILINE)) == sorted(settings())
    assert "A whole number from 0 to 1000; default `50`; presets: draft `0`; read by refine.isomer" in page
    page = (FOLDER / "commands.md").read_text(encoding="utf-8")
    for name, command in commands.commands():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        assert all(f"`{option.opts[0]}" in section for option in command.params if option.opts[0].startswith("--"))


def test_every_declared_file_has_a_sentence_and_no_sentence_is_left_over(monkeypatch) -> None:
    assert set(run_folder.FILES) == set(run_folder.declared())
    monkeypatch.delitem(run_folder.FILES, "refine/mesh.glb")
    with pytest.raises(KeyError, match=r"refine/mesh\.glb has no sentence"):
        run_folder.page()


def test_every_stage_is_in_order() -> None:
    page = (FOLDER / "run_folder.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)/$", page, re.MULTILINE) == [stage.name for stage in stages()]
