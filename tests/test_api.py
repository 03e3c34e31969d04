"""The Python API: what the command line does, with objects and errors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import kiss3d_cli
from kiss3d_cli import Run, evaluate, resume, run
from kiss3d_cli.core.errors import BadInput
from pictures import SMALL, draw_figure

SETTINGS = dict(setting.split("=", 1) for setting in SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("api")
    return run(draw_figure(out / "figure.png"), preset="draft", settings=SETTINGS, out=out)


def test_a_picture_becomes_a_mesh(made):
    assert made.mesh is not None
    assert made.mesh.is_file()
    assert made.stages["refine"] == "done"
    assert made.stages["eval"] == "off"
    assert made.file("bundle/bundle.png").is_file()


def test_a_run_is_drawn_from_any_side(made, tmp_path):
    image = made.draw((0, 90), size=32)
    assert (image.size, image.mode) == ((64, 32), "RGBA")
    front = np.asarray(image)[:, :32]
    drawn, given = (front[..., 3] > 127).mean(), np.asarray(Image.open(made.file("preprocess/mask.png"))) > 127
    assert drawn == pytest.approx(given.mean(), rel=0.15)
    assert not np.array_equal(front, np.asarray(image)[:, 32:])
    with pytest.raises(BadInput, match="no mesh yet"):
        run(draw_figure(tmp_path / "figure.png"), preset="draft", until="preprocess", out=tmp_path).draw()


def test_a_mesh_is_measured_against_itself(made):
    found = evaluate(made, made.file("refine/mesh.ply"), points=2000)
    assert found.distances.chamfer_l1 < 0.02


def test_resume_keeps_what_is_done_and_heeds_new_settings(made):
    before = made.file("reconstruct/mesh.ply").stat().st_mtime_ns
    again = resume(made, settings={"refine.color_weights": [1.0, 0.4, 1.0, 0.4]})
    assert again == made
    assert again.stages["refine"] == "done"
    assert again.file("reconstruct/mesh.ply").stat().st_mtime_ns == before


def test_faults_are_errors_that_say_what_to_do(tmp_path):
    with pytest.raises(BadInput, match=r"refine\.stepz"):
        run(draw_figure(tmp_path / "figure.png"), preset="draft", settings={"refine.stepz": 3}, out=tmp_path)
    with pytest.raises(TypeError, match="no input called 'sound'"):
        run(tmp_path / "figure.png", sound="a.wav")
    with pytest.raises(BadInput) as caught:
        run(tmp_path / "nothing.png", preset="draft")
    assert caught.value.hint


def test_importing_the_package_loads_nothing():
    code = "import sys, kiss3d_cli; print(*[n for n in sys.modules if n in ('torch', 'numpy', 'pydantic', 'typer')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
    assert set(kiss3d_cli.__all__) <= {*dir(kiss3d_cli), "Run", "evaluate", "resume", "run"}
    with pytest.raises(AttributeError):
        kiss3d_cli.nothing  # noqa: B018
