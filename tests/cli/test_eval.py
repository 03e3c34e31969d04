"""`kiss3d eval` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trimesh
from typer.testing import CliRunner, Result

from conftest import call, small_settings
from kiss3d_cli.cli.app import app


@pytest.fixture
def meshes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.export(tmp_path / "ball.obj")
    ball.apply_scale([1, 1.2, 0.9])
    ball.export(tmp_path / "egg.ply")
    return tmp_path


def kiss3d(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def test_numbers_for_people_and_for_programs(meshes: Path) -> None:
    shown = kiss3d("egg.ply", "--gt", "ball.obj", "--points", "2000")
    assert shown.exit_code == 0
    assert "Chamfer L1" in shown.stdout
    assert "2000 points instead of 100000" in shown.stdout
    printed = kiss3d("egg.ply", "--gt", "ball.obj", "--points", "2000", "--json")
    record = json.loads(printed.stdout)
    assert f"{record['metrics']['chamfer_l1']:.5f}" in shown.stdout
    assert record["prediction"]["file"] == "egg.ply"
    assert len(record["ground_truth"]["file_sha256"]) == 64


def test_out_has_numbers_and_pictures(meshes: Path) -> None:
    done = kiss3d("egg.ply", "--gt", "ball.obj", "--points", "2000", "--out", "here", "--align", "yaw")
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (meshes / "here").iterdir())
    assert files == ["error.ply", "error.png", "metrics.json", "overlay.png", "precision_recall.png"]
    record = json.loads((meshes / "here" / "metrics.json").read_text(encoding="utf-8"))
    assert record["alignment"]["kind"] == "yaw"
    done = kiss3d("egg.ply", "--gt", "ball.obj", "--points", "500", "--out", "there", "--no-pictures")
    assert [path.name for path in (meshes / "there").iterdir()] == ["metrics.json"]


def test_render_compares_pictures_and_changes_no_other_number(meshes: Path) -> None:
    plain = json.loads(kiss3d("egg.ply", "--gt", "ball.obj", "--points", "500", "--json").stdout)
    rendered = json.loads(kiss3d("egg.ply", "--gt", "ball.obj", "--points", "500", "--json", "--render").stdout)
    assert plain["metrics"] == rendered["metrics"]
    assert plain["rendered"] is None
    assert 0.7 < rendered["rendered"]["mask_iou"] < 0.99
    assert rendered["rendered"]["reason"] == "the prediction and the ground truth have no vertex colours"
    assert len(rendered["rendered"]["views"]) == 8


def test_folders_give_a_table_and_go_on_after_a_bad_one(meshes: Path) -> None:
    for folder in ("results", "truths"):
        (meshes / folder).mkdir()
    ball = (meshes / "ball.obj").read_bytes()
    for name in ("results/one.obj", "truths/one.obj", "results/two.obj", "truths/two.obj", "results/lost.obj"):
        (meshes / name).write_bytes(ball)
    (meshes / "results" / "two.obj").write_text("v 0 0 0\n", encoding="utf-8")
    done = kiss3d("results", "--gt", "truths", "--points", "1000", "--out", "table")
    assert done.exit_code == 2
    assert "| one.obj |" in done.stdout
    assert "- two.obj: " in done.stdout
    assert "- lost.obj: there is no ground truth called lost" in done.stdout
    assert sorted(path.name for path in (meshes / "table").iterdir()) == ["scores.csv", "scores.json", "scores.md"]
    assert (meshes / "table" / "scores.md").read_text(encoding="utf-8") == done.stdout
    printed = kiss3d("results", "--gt", "truths", "--points", "1000", "--json")
    assert json.loads(printed.stdout)["summary"]["chamfer_l1"]["count"] == 1


def test_a_run_without_a_mesh_says_how_to_get_one(meshes: Path, picture: Path) -> None:
    assert call("run", picture, "--preset", "draft", "--until", "preprocess", *small_settings()).code == 0
    for target in ([], ["outputs"], [next((meshes / "outputs").iterdir())]):
        answer = call("eval", *target, "--gt", "." if target == ["outputs"] else "ball.obj", "--out", "here")
        assert answer.code == 2
        assert "this run has no mesh yet" in answer.err
        assert not (meshes / "here").exists()


BAD = [
    (("egg.ply",), "no ground truth was given"),
    (("egg.ply", "--gt", "gone.obj"), "no such ground truth"),
    (("gone.ply", "--gt", "ball.obj"), "no such run folder or mesh"),
    (("--gt", "ball.obj"), "no run in outputs"),
    ((".", "--gt", "ball.obj"), "not a run folder"),
    (("egg.ply", "--gt", "ball.obj", "--protocol", "mine"), "no evaluation protocol 'mine'"),
    (("egg.ply", "--gt", "ball.obj", "--align", "mine"), "no alignment 'mine'"),
    (("egg.ply", "--gt", "ball.obj", "--points", "0"), "0 points"),
    (("egg.ply", "--gt", "ball.obj", "--seed", "-1"), "negative"),
    (("egg.ply", "--gt", "ball.obj", "--out", "egg.ply"), "a file, not a folder"),
    (("egg.ply", "--gt", "."), "the results must be one too"),
    (("other", "--gt", "."), "no result has a ground truth of its name"),
]


@pytest.mark.parametrize(("arguments", "cause"), BAD, ids=[" ".join(entry[0]) for entry in BAD])
def test_mistakes_are_named_and_nothing_is_written(meshes: Path, arguments: tuple[str, ...], cause: str) -> None:
    (meshes / "other").mkdir()
    (meshes / "other" / "third.obj").write_bytes((meshes / "ball.obj").read_bytes())
    before = sorted(meshes.rglob("*"))
    done = kiss3d(*arguments)
    assert done.exit_code == 2
    assert cause in done.stderr
    assert "try: " in done.stderr
    assert done.stdout == ""
    assert sorted(meshes.rglob("*")) == before
