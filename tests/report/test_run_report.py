from __future__ import annotations

import base64
import json
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import CAPTION, small_run

from kiss3d_cli.core.errors import BadInput, DamagedRun, Interrupted, Kiss3dError
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.methods.refine.isomer import Isomer
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.report.chart import Bar, bars
from kiss3d_cli.report.error_colors import STOPS, error_colors
from kiss3d_cli.report.run_report import run_report, write_report
from kiss3d_cli.report.run_view import read_run
from kiss3d_cli.report.shape import MOST_FACES, Shape, measure_errors, read_shape
from kiss3d_cli.report.viewer import pack
from sealing import edit


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    return small_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def copy(finished, tmp_path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))


class Reader(HTMLParser):
    """The words of a page, outside scripts and styles, its headings and its pictures' names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.headings: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)
        if tag == "img" and dict(attrs).get("src"):
            self.pictures.append(dict(attrs)["alt"] or "")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"unbalanced at </{tag}>"

    def handle_data(self, data):
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        if not set(self._open) & {"script", "style"} and data.strip():
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_page_has_everything(finished):
    page = run_report(finished)
    seen = Reader(page)
    for heading in ("Result", "From four sides", "Error", "Against the ground truth", "Four views", "Time", "Settings"):
        assert heading in seen.headings
    assert "Reference bundle" in seen.pictures
    assert "Final bundle" in seen.pictures
    # the four views, and the mesh in colours, normals and error
    assert [seen.pictures.count(name) for name in ("Front", "Right", "Back", "Left")] == [4, 4, 4, 4]
    assert {"The picture", "Cut out"} <= set(seen.pictures)
    assert CAPTION in seen.words
    metrics = json.loads((finished.path / "eval" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert f"{metrics['chamfer_l1']:.4f}" in seen.words
    assert len(page) < 1_000_000


def test_the_same_folder_gives_the_same_page(finished, copy):
    assert run_report(copy) == run_report(finished)


def test_nothing_of_the_page_comes_from_elsewhere(finished):
    page = run_report(finished)
    assert "default-src 'none'" in page
    for outside in ("http:", "https:", "//cdn", "@import", "url("):
        assert outside not in page.replace("http-equiv", "")


def test_the_command_makes_the_same_run_again(finished, copy, monkeypatch):
    from typer.testing import CliRunner

    from kiss3d_cli.cli.app import app

    shutil.rmtree(copy.path / "refine")
    words = shlex.split(read_run(finished).again)
    monkeypatch.chdir(copy.path)
    answer = CliRunner().invoke(app, [*words[1:], "--until", "caption", "--json"])
    assert answer.exit_code == 0, answer.stderr
    record = RunFolder(Path(json.loads(answer.stdout)["run_dir"])).record()
    assert record.config == finished.record().config
    assert {name: entry.sha256 for name, entry in record.inputs.items()} == {
        name: entry.sha256 for name, entry in finished.record().inputs.items()
    }


def test_a_partial_run_shows_what_there_is(copy):
    for name in ("reconstruct", "refine", "check", "eval"):
        shutil.rmtree(copy.path / name)
    seen = Reader(run_report(copy))
    assert "not finished" in seen.words
    assert "the first, rough mesh" in seen.words
    assert "Error" not in seen.headings
    for name in ("caption", "multiview", "reference", "bundle"):
        shutil.rmtree(copy.path / name)
    seen = Reader(run_report(copy))
    assert "There is no mesh yet." in seen.words
    assert "canvas" not in seen.tags
    assert "Cut out" in seen.pictures


def test_a_failed_run_has_the_error_on_top(copy, monkeypatch):
    def broken(*_):
        raise ValueError("<script>no such thing</script>")

    monkeypatch.setattr(Isomer, "work", broken)
    shutil.rmtree(copy.path / "refine")
    with pytest.raises(Kiss3dError):
        launch.resume(copy.path)
    page = run_report(copy)
    seen = Reader(page)
    assert seen.headings[1] == "Refine failed"
    assert "stage refine: ValueError: <script>no such thing</script>" in seen.words
    assert "<script>no such" not in page
    assert "Traceback" in seen.text
    assert "kiss3d resume ." in seen.words
    assert "the reconstructed mesh, not refined yet" in seen.words
    assert read_run(copy).state == "failed"


def test_an_interrupted_run_is_no_failure(copy, monkeypatch):
    def stopped(*_):
        raise Interrupted("cancelled")

    monkeypatch.setattr(Isomer, "work", stopped)
    shutil.rmtree(copy.path / "refine")
    with pytest.raises(Interrupted):
        launch.resume(copy.path)
    seen = Reader(run_report(copy))
    assert seen.headings[1] == "Refine was interrupted"
    assert "interrupted" in seen.words


def test_a_failed_second_attempt_shows_beside_the_older_result(copy, monkeypatch):
    def broken(*_):
        raise ValueError("second attempt")

    monkeypatch.setattr(Isomer, "work", broken)
    with pytest.raises(Kiss3dError):
        launch.resume(copy.path, ["refine.steps=1"])
    seen = Reader(run_report(copy))
    assert seen.headings[1] == "Refine failed"
    assert "the final mesh" in seen.words
    assert "refine is stale: refine.steps changed from 0 to 1" in seen.words


def test_nothing_outside_the_run_folder_is_read(copy, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "error.json").write_text(json.dumps({"error": "the secret"}))
    (copy.path / "refine.failed").symlink_to(secret)
    view = copy.path / "multiview" / "front.png"
    view.rename(secret / "front.png")
    view.symlink_to(secret / "front.png")
    seen = Reader(run_report(copy))
    assert "the secret" not in seen.text
    assert seen.pictures.count("Front") == 3, "of the mesh alone, not of the views"
    told = [word for word in seen.words if word.startswith("multiview is damaged: ")]
    assert len(told) == 1, seen.words
    assert "front.png" in told[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [("refine/mesh.glb", "mesh.glb was changed"), ("input.png", "the picture can't be shown")],
)
def test_a_damaged_file_is_said_and_the_rest_is_there(copy, name, told):
    path = copy.path / name
    path.write_bytes(b"\0" * path.stat().st_size)
    seen = Reader(run_report(copy))
    assert told in seen.text
    assert "Final bundle" in seen.pictures


def test_what_is_no_run_is_an_error(tmp_path, copy):
    with pytest.raises(BadInput, match=r"no run\.json"):
        write_report(RunFolder(tmp_path))
    (copy.path / "run.json").write_text("{")
    with pytest.raises(DamagedRun):
        write_report(copy)


def test_errors_are_distances_in_the_protocols_unit(finished):
    run = read_run(finished)
    shape = read_shape(run)
    errors = measure_errors(run, shape.mesh)
    # by hand: to the nearest vertex of a fine egg, in the longest side of its box
    from scipy.spatial import KDTree
    from trimesh.creation import icosphere

    egg = icosphere(subdivisions=5).vertices * [0.5, 0.8, 0.4]
    expected = KDTree(egg).query(shape.mesh.vertices.numpy())[0] / 1.6
    assert np.abs(errors.distance - expected).max() < 0.02
    assert np.corrcoef(errors.distance, expected)[0, 1] > 0.99
    assert errors.scale == 0.05


def test_error_colors_are_the_stops_and_what_lies_between():
    at = np.array([stop for stop, _color in STOPS])
    assert np.allclose(error_colors(at * 3, 3.0), [color for _stop, color in STOPS])
    assert np.allclose(error_colors(np.array([0.1, 9.0]), 1.0), [np.mean([STOPS[0][1], STOPS[1][1]], 0), STOPS[-1][1]])


def test_the_packed_mesh_unpacks_to_the_same():
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(50, 3, generator=generator)
    faces = torch.randint(0, 50, (70, 3), generator=generator)
    colors = torch.rand(50, 3, generator=generator)
    packed = pack(Shape(Mesh(vertices, faces, colors), None, "", 70), np.full((50, 3), 0.2))
    layout, data = json.loads(packed.layout), np.frombuffer(base64.b64decode(packed.data), np.uint8)

    def part(name, kind, columns, rows):
        start = layout["at"][name]
        assert start % 4 == 0
        size = np.dtype(kind).itemsize * columns * rows
        return data[start : start + size].view(kind).reshape(rows, columns)

    back = np.array(layout["low"]) + part("position", "<u2", 4, 50)[:, :3] / 65535 * np.array(layout["size"])
    assert np.abs(back - vertices.numpy()).max() < 1e-4
    assert np.abs(part("color", "u1", 4, 50)[:, :3] / 255 - colors.numpy()).max() < 0.002
    assert np.array_equal(part("index", "<u2", 3, 70), faces.numpy())
    assert packed.modes == ("colors", "shaded", "wireframe", "normals", "error")


def test_counts_of_the_mesh_are_set_alike_and_foreign_values_are_text(copy):
    path = copy.path / "refine" / "manifest.json"
    facts = {"vertices": 15000, "genus": "<b>7</b>", "watertight": True}
    edit(path, lambda record: record["facts"]["mesh"].update(facts))
    page = write_report(copy).read_text(encoding="utf-8")
    assert "15,000" in page
    assert "&lt;b&gt;7&lt;/b&gt;" in page
    assert "<b>7</b>" not in page


def test_a_large_mesh_is_simplified(copy, monkeypatch):
    monkeypatch.setattr("kiss3d_cli.report.shape.MOST_FACES", 500)
    shape = read_shape(read_run(copy))
    assert len(shape.mesh.faces) <= 520 < shape.faces < MOST_FACES
    assert shape.texture is None
    assert shape.mesh.colors is not None
    assert "on this page" in Reader(run_report(copy)).text


def test_bars_are_in_proportion():
    chart = bars("Seconds <>", [Bar("a & b", "1 s", (1.0,)), Bar("c", "4 s", (4.0,))])
    assert 'width="25.00%"' in chart
    assert 'width="100.00%"' in chart
    assert "a &amp; b" in chart
    assert "Seconds &lt;&gt;" in chart
    assert bars("none", []) == ""


def test_a_very_large_picture_is_made_small(copy):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(copy.path / "input.png")
    assert len(run_report(copy)) < 1_200_000
