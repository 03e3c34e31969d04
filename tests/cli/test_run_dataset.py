"""`kiss3d run` over a data set, with the real draft stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from conftest import call, small_settings
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.many_runs import DATASET_SETTINGS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, picture: Path) -> Path:
    """An item seen twice, one whose picture is broken, and one without a ground truth."""
    root = tmp_path_factory.mktemp("dataset")
    (root / "images").mkdir()
    for name in ("figure_0.png", "lost_0.png"):
        shutil.copyfile(picture, root / "images" / name)
    with Image.open(picture) as opened:  # rounder, so nearer to the ground truth, which is a ball
        opened.crop((80, 140, 240, 360)).save(root / "images" / "figure_3.png")
    (root / "images" / "broken_0.png").write_text("no picture", encoding="utf-8")
    for name in ("figure", "broken"):
        (root / "models" / name / "meshes").mkdir(parents=True)
        trimesh.creation.icosphere().export(root / "models" / name / "meshes" / "model.obj")
    return root


def run(root: Path, out: Path, *arguments: object):
    settings = [*small_settings(), "--set", "eval.points=500", "--set", "eval.align=none"]
    return call("run", "--dataset", root, *arguments, "--preset", "draft", "--out", out, *settings)


def test_all_views_are_run_once_and_the_best_comes_on_top(root: Path, tmp_path: Path) -> None:
    first = run(root, tmp_path, "--item", "figure", "--view", "all", "--json")
    assert first.code == 0, first.err
    folder = tmp_path / "figure"
    report = json.loads((folder / "runs_report.json").read_text(encoding="utf-8"))
    assert [(entry["name"], entry["view"], entry["status"]) for entry in report["runs"]] == [
        ("figure_0", 0, "done"),
        ("figure_3", 3, "done"),
    ]
    assert first.json["runs"] == report["runs"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    best = summary["best"]["figure"]
    chamfer = [entry["metrics"]["chamfer_l1"] for entry in report["runs"]]
    assert chamfer[1] < 0.95 * chamfer[0]
    assert best["name"] == "figure_3"
    assert (folder / "mesh.glb").read_bytes() == Path(best["mesh"]).read_bytes()
    on_top = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert on_top["metrics"]["chamfer_l1"] == best["metrics"]["chamfer_l1"]
    assert "| figure_3 |" in (folder / "scores.md").read_text(encoding="utf-8")

    # a run that was cut short is taken up again, one that is done is left alone
    shutil.rmtree(Path(report["runs"][1]["run_dir"]) / "eval")
    again = run(root, tmp_path, "--item", "figure", "--view", "all", "--json")
    assert [entry["status"] for entry in again.json["runs"]] == ["skipped", "done"]
    assert [entry["run_dir"] for entry in again.json["runs"]] == [entry["run_dir"] for entry in report["runs"]]
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2


def test_a_plan_goes_on_after_a_failure(root: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    lines = ["objects:", "- {name: broken, view: 0}", "- {name: lost}", "- {name: figure, view: 3, notes: side}"]
    plan.write_text("\n".join(lines), encoding="utf-8")
    answer = run(root, tmp_path / "out", "--plan", plan)
    assert answer.code == 2
    report = json.loads((tmp_path / "out" / "plan" / "runs_report.json").read_text(encoding="utf-8"))["runs"]
    assert [entry["status"] for entry in report] == ["failed", "failed", "done"]
    assert "broken_0.png" in report[0]["error"]
    assert "no ground truth" in report[1]["error"]
    assert report[2]["notes"] == "side"
    assert "| figure_3 |" in answer.out
    assert "- broken_0: " in answer.out
    assert "2 of 3 failed" in answer.err
    assert not (tmp_path / "out" / "plan" / "mesh.glb").exists()


def test_a_dry_run_names_the_files_and_makes_none(root: Path, tmp_path: Path) -> None:
    answer = run(root, tmp_path, "--item", "figure", "--view", "all", "--dry-run", "--json")
    assert [Path(entry["picture"]).name for entry in answer.json["runs"]] == ["figure_0.png", "figure_3.png"]
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_is_aligned_by_similarity_unless_told_otherwise(root: Path, picture: Path) -> None:
    request = launch.Request({"picture": picture}, preset="draft", base_settings=DATASET_SETTINGS)
    assert launch.prepare(request).record.config["eval.align"] == "similarity"
    told = launch.Request(
        {"picture": picture}, preset="draft", base_settings=DATASET_SETTINGS, settings=("eval.align=yaw",)
    )
    assert launch.prepare(told).record.config["eval.align"] == "yaw"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--item", "figure"], "none was given"),
        (["--dataset", "ROOT"], "needs --item or --plan"),
        (["--dataset", "ROOT", "--item", "figure", "--plan", "p.yaml"], "both --item and --plan"),
        (["--dataset", "ROOT", "--plan", "p.yaml", "--view", "1"], "view of its own"),
        (["--dataset", "ROOT", "--plan", "p.yaml"], "no such plan"),
        (["--dataset", "ROOT", "--item", "figure", "--gt", "a.obj"], "its own pictures"),
        (["a.png", "--dataset", "ROOT", "--item", "figure"], "its own pictures"),
        (["--dataset", "gone", "--item", "figure"], "not a data set"),
        (["--dataset", "ROOT", "--item", "figure", "--view", "9"], "has no view '9'"),
        (["--dataset", "ROOT", "--item", "figure", "--view", "all", "--preset", "none"], "no preset 'none'"),
    ],
)
def test_mistakes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = call("run", *(str(root) if part == "ROOT" else part for part in arguments))
    assert answer.code == 2
    assert cause in answer.err
