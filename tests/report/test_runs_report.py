from __future__ import annotations

import gc
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import PROGRAM, Browser
from PIL import Image
from small_runs import small_run

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.report.run_report import write_report
from kiss3d_cli.report.run_view import read_run
from kiss3d_cli.report.runs_report import runs_report, write_runs_report
from kiss3d_cli.report.turntable import best_format, turn, write_turntable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """A finished run with a report, one without its last stages, one that is broken, and a link to elsewhere."""
    folder = tmp_path_factory.mktemp("outputs")
    first = small_run(folder)
    write_report(first)
    runs = folder / "runs"
    first.path.rename(runs / "b <whole> & done")
    second = Path(shutil.copytree(runs / "b <whole> & done", runs / "a-partial"))
    for name in ("refine", "check", "eval"):
        shutil.rmtree(second / name)
    (second / "report.html").unlink()
    (runs / "c-broken").mkdir()
    (runs / "c-broken" / "run.json").write_text("{")
    shutil.copytree(second, folder / "elsewhere")
    (runs / "d-link").symlink_to(folder / "elsewhere")
    return runs


def test_every_run_has_a_row(outputs):
    page = runs_report(outputs)
    rows = re.findall(r"<tr>.*?</tr>", page)[1:]
    assert len(rows) == 3
    by_name = {next(name for name in ("whole", "partial", "broken") if name in row): row for row in rows}
    assert 'href="b%20%3Cwhole%3E%20%26%20done/report.html"' in by_name["whole"]
    assert "<whole>" not in page
    assert by_name["whole"].count("<img") == 2
    assert "chamfer l1" in page
    assert "not finished" in by_name["partial"]
    assert "report.html" not in by_name["partial"]
    assert "unreadable" in by_name["broken"]
    assert "d-link" not in page


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="neither a run folder nor a folder of runs"):
        runs_report(tmp_path)


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed (apt-get install chromium)")
def test_the_table_sorts(outputs):
    path = write_runs_report(outputs)
    order = "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[2].dataset.value[0]).join('')"
    with Browser() as browser:
        for width in (1280, 400):
            page = browser.open(path.as_uri(), width=width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        heads = page.evaluate("[...document.querySelectorAll('th')].map((head) => head.textContent)")

        def click(name: str) -> str:
            page.evaluate(f"document.querySelectorAll('th button')[{heads.index(name)}].click()")
            return page.evaluate(order)

        assert click("run") == "abc"
        assert click("run") == "cba"
        # the partial run took less time, and the broken one's is not known: that comes last both ways
        assert click("time") == "abc"
        assert click("time") == "bac"
        assert page.faults == []
        assert page.requests == [path.as_uri()]


def test_a_turn_starts_in_front_and_comes_round(outputs):
    from kiss3d_cli.report.shape import read_shape

    run = read_run(RunFolder(outputs / "b <whole> & done"))
    frames = list(turn(read_shape(run), 4, 64, CPU, run.record.config["camera.radius"]))
    assert len(frames) == 4
    seen = [(frame.min(-1) < 250) for frame in frames]
    assert all(0.1 < mask.mean() < 0.6 for mask in seen)
    # the figure's yellow head is at the left from the front, and at the right from behind
    yellow = [(frame[..., 0] > 180) & (frame[..., 1] > 150) & (frame[..., 2] < 140) for frame in frames]
    heads = [mask.nonzero()[1].mean() - 32 for mask in yellow]
    assert heads[0] < -4
    assert heads[2] > 4


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # imageio-ffmpeg leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_the_film_has_its_frames(outputs, kind):
    imageio = pytest.importorskip("imageio.v2")
    if kind == "mp4":
        pytest.importorskip("imageio_ffmpeg")
    run = read_run(RunFolder(outputs / "b <whole> & done"))
    shares: list[float] = []
    path = write_turntable(run, kind, CPU, frames=6, size=64, progress=shares.append)
    assert path.name == f"turntable.{kind}"
    assert shares == [pytest.approx((number + 1) / 6) for number in range(6)]
    with imageio.get_reader(path) as reader:
        frames = [np.asarray(frame)[..., :3] for frame in reader]
    del reader
    gc.collect()
    assert len(frames) == 6
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[3].astype(int)).mean() > 3
    assert not list(path.parent.glob(".turntable*"))
    if kind == "gif":
        with Image.open(path) as image:
            assert image.info["loop"] == 0


def test_a_run_without_a_mesh_has_no_film(outputs, tmp_path):
    pytest.importorskip("imageio")
    copy = Path(shutil.copytree(outputs / "a-partial", tmp_path / "run"))
    for name in ("reference", "reconstruct"):
        shutil.rmtree(copy / name)
    with pytest.raises(BadInput, match="no mesh yet"):
        write_turntable(read_run(RunFolder(copy)), "gif", CPU)


def test_without_imageio_the_message_says_what_to_install(outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Missing, match="imageio") as caught:
        best_format()
    assert "pip install" in caught.value.hint
