"""docs/quickstart.ipynb runs, and keeps the outputs of a whole execution."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kiss3d_cli import api
from notebook_pages import as_markdown
from pictures import QUICK
from run_notebook import LARGEST, QUICKSTART

CELLS = json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def test_its_outputs_are_kept_and_tell_nothing_of_the_machine() -> None:
    text = QUICKSTART.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    shown = re.sub(r"data:image/png;base64,\S+", "", as_markdown({"cells": CELLS}))
    assert re.findall(r"(?<![\w.])(?:/|[A-Z]:\\)\w+[/\\]\S*", shown) == []


def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small pictures and settings of little cost; what is shown is left to the execution that was kept."""
    monkeypatch.chdir(small_examples(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    real, small = api.run, dict(setting.split("=", 1) for setting in (*QUICK, "refine.texture=false"))
    monkeypatch.setattr(api, "run", lambda *given, **named: real(*given, settings=small, **named))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(CODE, 1):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # a fault names its cell
    assert names["mushroom"].stages["refine"] == "done"
    assert names["outputs"].parent == tmp_path


def small_examples(folder: Path) -> Path:
    """A folder for the notebook, with smaller pictures beside it where it looks for the examples."""
    for example in (QUICKSTART.parents[1] / "data" / "examples").iterdir():
        target = folder / "data" / "examples" / example.name
        target.mkdir(parents=True)
        for name in ("mesh.ply", "bundle.png"):
            (target / name).symlink_to(example / name)
        with Image.open(example / "picture.png") as picture:
            picture.resize((192, 192)).save(target / "picture.png")
    (folder / "docs").mkdir()
    return folder / "docs"
