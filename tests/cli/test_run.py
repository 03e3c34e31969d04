from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh

from conftest import call, small_settings
from sealing import edit
from support.methods import integrate_small

NAMES = [
    "preprocess",
    "caption",
    "sides",
    "multiview",
    "reference",
    "prompt",
    "bundle",
    "reconstruct",
    "refine",
    "check",
    "place",
    "eval",
    "export",
]


def _each(status: str) -> list[str]:
    """This status for every stage but those that a draft of one picture without a ground truth has no need of."""
    return ["off" if name in ("sides", "prompt", "place", "eval", "export") else status for name in NAMES]


def by_name(record: dict) -> dict:
    return {stage["name"]: stage for stage in record["stages"]}


def hashes(run_dir) -> dict[str, str]:
    found = {}
    for path in sorted(Path(run_dir).glob("*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found.update({f"{manifest['stage']}/{entry['path']}": entry["sha256"] for entry in manifest["artifacts"]})
    return found


def test_the_object_on_stdout(finished_run):
    assert set(finished_run) == {"run_dir", "mesh", "preset", "exported", "check", "stages"}
    assert finished_run["preset"] == "draft"
    assert [stage["name"] for stage in finished_run["stages"]] == NAMES
    assert [stage["status"] for stage in finished_run["stages"]] == _each("done")
    assert all(stage["seconds"] > 0 for stage in finished_run["stages"] if stage["status"] == "done")


def test_the_run_folder_records_what_was_asked_for(finished_run, picture):
    folder = Path(finished_run["run_dir"])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (folder / "input.png").read_bytes() == picture.read_bytes()
    assert record["seed"] == 42
    assert record["config"]["refine"]["steps"] == 0
    assert record["libraries"]["torch"]
    assert record["inputs"]["picture"]["sha256"]
    manifest = json.loads((folder / "refine" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["refine.steps"] == 0
    assert manifest["peak_rss_bytes"] > 2**26
    assert manifest["peak_vram_bytes"] is None


def test_the_mesh_is_closed_upright_and_shows_the_picture(finished_run):
    mesh = trimesh.load(finished_run["mesh"], force="mesh")
    merged = trimesh.Trimesh(mesh.vertices, mesh.faces)
    merged.merge_vertices()
    assert merged.is_watertight
    assert merged.is_winding_consistent
    assert merged.volume > 0
    assert np.abs(merged.vertices).max() <= 1.05
    ply = trimesh.load(Path(finished_run["mesh"]).with_suffix(".ply"))
    red, _green, blue = (ply.visual.vertex_colors[:, channel].astype(float) for channel in range(3))
    front = ply.vertices[:, 2] > np.percentile(ply.vertices[:, 2], 60)
    yellow = front & (red > 180) & (blue < 140)
    blueish = front & (blue > 120) & (red < 100)
    assert yellow.sum() > 20
    assert blueish.sum() > 20
    # the head is yellow, above the blue body and to the viewer's left of the arm
    assert ply.vertices[yellow, 1].mean() > ply.vertices[blueish, 1].mean() + 0.3
    assert ply.vertices[yellow, 0].mean() < 0


def test_resume_of_a_finished_run_does_nothing(kiss3d, finished_run):
    before = hashes(finished_run["run_dir"])
    answer = kiss3d("resume", finished_run["run_dir"], "--json")
    assert answer.code == 0
    assert [stage["status"] for stage in answer.json["stages"]] == _each("skipped")
    assert hashes(finished_run["run_dir"]) == before


def test_an_option_runs_again_what_depends_on_it_and_says_so(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("resume", copy, "--set", "refine.steps=1", "--set", "bundle.steps=3", "--json")
    stages = by_name(answer.json)
    assert [name for name in NAMES if stages[name]["status"] == "done"] == ["refine", "check"]
    assert stages["refine"]["reason"] == "refine.steps changed from 0 to 1"
    assert "refine.steps changed from 0 to 1" in answer.err
    assert hashes(copy) != hashes(finished_run["run_dir"])
    kiss3d("resume", copy, "--set", "refine.steps=0")
    assert hashes(copy) == hashes(finished_run["run_dir"])


def test_from_runs_a_stage_and_all_after_it(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("resume", copy, "--from", "reconstruct", "--json")
    stages = by_name(answer.json)
    assert [name for name in NAMES if stages[name]["status"] == "done"] == ["reconstruct", "refine", "check"]
    assert hashes(copy) == hashes(finished_run["run_dir"])


def test_status_tells_done_stale_damaged_and_missing_apart(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    (copy / "caption" / "caption.json").write_text("{}")
    shutil.rmtree(copy / "refine")
    edit(copy / "run.json", lambda record: record["config"]["camera"].update(radius=4.5))
    answer = kiss3d("status", copy, "--json")
    stages = by_name(answer.json)
    assert {name: stages[name]["status"] for name in NAMES} == {
        "preprocess": "done",
        "caption": "damaged",
        "sides": "off",
        "multiview": "stale",
        "reference": "stale",
        "prompt": "off",
        "bundle": "stale",
        "reconstruct": "stale",
        "refine": "missing",
        "check": "stale",
        "place": "off",
        "eval": "off",
        "export": "off",
    }
    assert "caption.json" in stages["caption"]["reason"]
    assert stages["multiview"]["reason"] == "camera.radius changed from 4.15 to 4.5"
    assert stages["place"]["reason"] == "no --mesh was given"
    text = kiss3d("status", copy)
    assert "camera.radius changed from 4.15 to 4.5" in text.out


def test_dry_run_does_nothing(kiss3d, tmp_path, picture):
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "runs", "--dry-run", "--json")
    assert answer.code == 0
    assert [stage["action"] for stage in answer.json["stages"]] == _each("run")
    assert not (tmp_path / "runs").exists()
    text = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "runs", "--dry-run")
    assert "no --gt was given" in text.out


def test_until_stops_and_resume_goes_on(kiss3d, tmp_path, picture):
    answer = kiss3d(
        "run", picture, "--preset", "draft", "--out", tmp_path, *small_settings(), "--until", "caption", "--json"
    )
    assert answer.json["mesh"] is None
    assert [stage["status"] for stage in answer.json["stages"][:4]] == ["done", "done", "off", "later"]
    assert kiss3d("status", answer.json["run_dir"]).code == 0
    resumed = kiss3d("resume", answer.json["run_dir"], "--until", "bundle", "--json")
    assert resumed.json["mesh"] is None
    assert [stage["status"] for stage in resumed.json["stages"][:4]] == ["skipped", "skipped", "off", "done"]
    assert by_name(resumed.json)["bundle"]["status"] == "done"
    assert by_name(resumed.json)["reconstruct"]["status"] == "later"


def test_resume_until_says_that_it_stopped_beside_an_older_mesh(kiss3d, tmp_path, finished_run):
    folder = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("resume", folder, "--from", "caption", "--until", "caption")
    assert answer.code == 0
    assert "stopped as asked" in answer.err
    assert "mesh.glb" not in answer.out
    wrong = kiss3d("resume", folder, "--until", "colour")
    assert wrong.code == 2
    assert "there is no stage 'colour'" in wrong.err


def test_auto_says_which_preset_and_why(kiss3d, tmp_path, picture, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = kiss3d("run", picture, "--out", tmp_path, "--dry-run", "--json")
    assert answer.json["preset"] == "draft"
    assert re.search("preset draft .(no|this torch is built without) CUDA", answer.err)


def test_a_point_cloud_as_the_ground_truth(kiss3d, tmp_path, finished_run, monkeypatch):
    """As `eval --gt` measures it; what needs a surface is null with a reason."""
    integrate_small(monkeypatch)
    ply = Path(finished_run["run_dir"]) / "refine" / "mesh.ply"
    points = trimesh.sample.sample_surface(trimesh.load(ply, process=False), 5000, seed=0)[0]
    scan = tmp_path / "scan.ply"
    trimesh.PointCloud(points).export(scan)
    bundle = Path(finished_run["run_dir"]) / "bundle" / "bundle.png"
    options = (*("--bundle", bundle, "--preset", "draft", "--out", tmp_path, "--gt", scan), *small_settings())
    answer = kiss3d("run", *options, "--set", "eval.points=2000", "--set", "eval.render=true", "--json")
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    record = json.loads((folder / "eval" / "metrics.json").read_text(encoding="utf-8"))
    assert record["ground_truth"]["kind"] == "point cloud"
    assert record["metrics"]["volume_iou"] is record["metrics"]["normal_consistency"] is record["rendered"] is None
    assert "point cloud" in json.dumps(record["warnings"])
    assert 0 < record["metrics"]["accuracy"] < 0.05
    alone = kiss3d("eval", folder / "refine" / "mesh.ply", "--gt", scan, "--points", "2000", "--seed", "42", "--json")
    assert alone.json["metrics"] == record["metrics"]
    assert "Distance to the ground truth" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("rows", ["0 0 0\n1 1 1\n", "1 2 3\n" * 3, "nan 0 0\n" * 9])
def test_a_point_cloud_without_extent_is_refused_before_any_work(kiss3d, tmp_path, picture, rows):
    head = f"ply\nformat ascii 1.0\nelement vertex {rows.count(chr(10))}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "scan.ply").write_text(head + rows, encoding="utf-8")
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "o", "--gt", tmp_path / "scan.ply")
    assert answer.code == 2
    assert "scan.ply" in answer.err
    assert not (tmp_path / "o").exists()


def test_a_bundle_instead_of_a_picture_with_a_ground_truth(kiss3d, tmp_path, finished_run, monkeypatch):
    integrate_small(monkeypatch)
    bundle = Path(finished_run["run_dir"]) / "bundle" / "bundle.png"
    answer = call(
        "run",
        *("--bundle", bundle, "--preset", "draft", "--out", tmp_path, "--gt", finished_run["mesh"]),
        *(*small_settings(), "--set", "eval.points=2000", "--json"),
    )
    assert answer.code == 0, answer.err
    stages = by_name(answer.json)
    assert [name for name in NAMES if stages[name]["status"] == "done"] == ["bundle", "reconstruct", "refine", "eval"]
    metrics = json.loads((Path(answer.json["run_dir"]) / "eval" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["metrics"]["chamfer_l1"] < 0.03, "the same bundle gives the same mesh, to sampling error"


def test_the_name_of_a_run_can_be_anything(kiss3d, tmp_path, picture):
    answer = kiss3d(
        "run",
        *(picture, "--preset", "draft", "--out", tmp_path, "--name", "../../a b/ü", "--until", "preprocess", "--json"),
    )
    folder = Path(answer.json["run_dir"])
    assert folder.parent == tmp_path
    assert folder.name.startswith("a-b-ü-")


@pytest.mark.parametrize("arguments", [["RUN"], ["MESH"]])
def test_eval_of_a_run_or_a_mesh(kiss3d, finished_run, arguments):
    target = {"RUN": finished_run["run_dir"], "MESH": finished_run["mesh"]}[arguments[0]]
    answer = kiss3d("eval", target, "--gt", finished_run["mesh"], "--points", "2000", "--json")
    assert answer.code == 0
    assert answer.json["metrics"]["chamfer_l1"] < 0.03
    assert "Chamfer" in kiss3d("eval", target, "--gt", finished_run["mesh"], "--points", "2000").out
