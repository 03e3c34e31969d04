"""`kiss3d export`, and the same as the last stage of a run: what is written, and one message for what can't be."""

from __future__ import annotations

import json
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest
import trimesh

from kiss3d_cli.export.targets import FORMATS, TARGETS
from kiss3d_cli.methods.export.files import FilesSettings, in_settings
from sealing import edit


@pytest.fixture
def box(tmp_path) -> Path:
    path = tmp_path / "box.ply"
    trimesh.creation.box((1, 2, 3)).export(path)
    return path


def test_a_run_is_exported_under_its_name(kiss3d, tmp_path, finished_run):
    small = ("--to", "blender", "--faces", 300, "--texture", 256)
    answer = kiss3d("export", finished_run["run_dir"], *small, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    (file,) = answer.json["files"]
    assert Path(file).name.endswith("-blender.glb")
    assert answer.json["faces"] <= 300
    assert answer.json["normal_map"]
    assert len(trimesh.load(file, force="mesh").faces) == answer.json["faces"]
    plain = kiss3d("export", finished_run["run_dir"], "--to", "godot", "--out", tmp_path / "robot.glb")
    assert plain.out.strip() == str(tmp_path / "robot.glb")
    assert "note: " in plain.err or "faces" in plain.err


def test_the_last_stage_of_a_run_writes_the_same_and_is_taken_up_again(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    answer = kiss3d("resume", copy, "--set", "export.to=unity", "--set", "export.height=80mm", "--json")
    assert answer.code == 0, answer.err
    stages = {stage["name"]: stage["status"] for stage in answer.json["stages"]}
    assert stages["export"] == "done"
    assert {status for name, status in stages.items() if name != "export"} == {"skipped", "off"}
    # the bundle shows the surface before it was decimated to 2,000 faces
    names = ["mesh.obj", "mesh.mtl", "mesh.png", "mesh_normal.png"]
    assert [Path(path).name for path in answer.json["exported"]] == names
    made = Path(answer.json["exported"][0])
    assert np.ptp(trimesh.load(made, force="mesh").vertices[:, 1]) == pytest.approx(0.08, rel=1e-4)
    alone = kiss3d("export", copy, "--to", "unity", "--height", "80mm", "--out", tmp_path / "mesh.obj")
    assert alone.code == 0
    assert (tmp_path / "mesh.obj").read_bytes() == made.read_bytes()
    assert f'<a href="export/{made.name}">' in (copy / "report.html").read_text(encoding="utf-8")
    again = kiss3d("resume", copy, "--json").json
    assert {stage["status"] for stage in again["stages"]} == {"skipped", "off"}
    made.write_bytes(b"cut")
    kept = kiss3d("resume", copy, "--json").json
    assert {stage["name"] for stage in kept["stages"] if stage["status"] == "done"} == {"export"}
    assert made.read_bytes() == (tmp_path / "mesh.obj").read_bytes()
    switched = kiss3d("resume", copy, "--set", "export.to=none", "--json").json
    assert switched["exported"] == []


def test_a_run_of_before_there_were_exports_is_done(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    edit(copy / "run.json", lambda record: record["config"].pop("export"))
    (copy / "preprocess" / "window.json").unlink()
    edit(
        copy / "preprocess" / "manifest.json",
        lambda record: record.update(artifacts=[a for a in record["artifacts"] if a["path"] != "window.json"]),
    )
    stages = {stage["name"]: stage["status"] for stage in kiss3d("status", copy, "--json").json["stages"]}
    assert set(stages.values()) == {"done", "off"}
    answer = kiss3d("resume", copy, "--set", "export.to=godot", "--json")
    assert {stage["name"] for stage in answer.json["stages"] if stage["status"] == "done"} == {"export"}


def test_the_stage_has_the_settings_of_the_command():
    hints = typing.get_type_hints(FilesSettings)
    assert set(typing.get_args(hints["to"])) == {"none", *TARGETS}
    assert set(typing.get_args(typing.get_args(hints["format"])[0])) == set(FORMATS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["export.to=print", "export.height=80"], "export.height: '80' has no unit"),
        (["export.to=print", "export.height=9in", "export.wall=80mm"], "export.wall: a wall of 80 mm leaves nothing"),
        (["export.to=web", "export.hollow=true"], "export.hollow: this is for prints; add export.to=print"),
        (["export.to=web", "export.format=stl"], "export.format: a web page is not given stl files here"),
        (["export.to=print", "export.height=3 parsecs"], "export.height: 'parsecs' is not a unit"),
        (["export.to=blender", "export.format=stl", "export.normal_map=true"], "export.normal_map: stl files have no"),
        (["export.to=unity", "export.texture=1000"], "export.texture: a texture of 1000 pixels"),
        (["export.to=maya"], "export.to (--set): 'maya' is not one of"),
    ],
)
def test_settings_that_a_target_can_not_hold_end_the_run_before_it_begins(kiss3d, tmp_path, picture, settings, said):
    asked = [part for setting in settings for part in ("--set", setting)]
    answer = kiss3d("run", picture, "--preset", "draft", "--out", tmp_path / "runs", *asked)
    assert answer.code == 2
    assert said in answer.err
    assert "--hollow" not in answer.err
    assert not (tmp_path / "runs").exists()


def test_sentences_about_options_tell_of_settings():
    assert in_settings("leave --up out, or --format obj: add --to print") == (
        "leave export.up out, or export.format=obj: add export.to=print"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the target is missing"),
        (["--to", "maya"], "there is no target 'maya'"),
        (["--to", "print", "--height", "80 parsecs"], "'parsecs' is not a unit"),
        (["--to", "print", "--height", "80"], "has no unit"),
        (["--to", "print", "--height", "-1mm"], "must be a positive number"),
        (["--to", "print", "--height", "nanmm"], "is not a length"),
        (["--to", "print", "--height", "90km"], "'km' is not a unit"),
        (["--to", "print", "--height", "9000m"], "no size that an object"),
        (["--to", "print", "--height", "1e-9mm"], "no size that an object"),
        (["--to", "print", "--wall", "60mm", "--height", "80mm"], "leaves nothing"),
        (["--to", "unity", "--faces", "0"], "can't have 0 faces"),
        (["--to", "unity", "--texture", "0"], "what engines take"),
        (["--to", "unity", "--origin", "left"], "'left' is not known"),
        (["--to", "unity", "--up", "x"], "'x' is not known"),
        (["--to", "ar", "--lods", "3"], "for game engines"),
        (["--to", "ar", "--format", "stl"], "is not given stl"),
        (["--to", "web", "--out", "mesh.stl"], "is not given stl"),
        (["--to", "web", "--format", "glb", "--out", "mesh.obj"], "the name ends in .obj, the format is glb"),
        (["--to", "print", "--hollow", "--wall", "1.5m", "--height", "2m"], "leaves nothing"),
    ],
)
def test_what_can_not_be_is_said_in_one_message(kiss3d, tmp_path, monkeypatch, box, arguments, said):
    monkeypatch.chdir(tmp_path)
    answer = kiss3d("export", box, *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("kiss3d: ") == 1
    assert "  try: " in answer.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "kiss3d-cache") == ["box.ply"]


_OPEN = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (5, 5, 5), (6, 5, 5), (5, 6, 5)]


def _write(path: Path, vertices: object, faces: object) -> Path:
    lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [f"f {' '.join(str(i + 1) for i in f)}" for f in faces]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("vertices", "faces", "to", "said"),
    [
        ([], [], "unity", "no geometry"),
        ([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], "unity", "only points"),
        ([(0, 0, 0)] * 3, [(0, 1, 2)], "unity", "no area"),
        ([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [(0, 1, 2)], "print", "make no surface"),
        (_OPEN, [(0, 1, 2), (3, 4, 5)], "print", "make no surface"),
        ([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], [(0, 1, 2), (0, 2, 3)], "print", "encloses nothing"),
    ],
)
def test_meshes_that_hold_nothing(kiss3d, tmp_path, vertices, faces, to, said):
    mesh = _write(tmp_path / "mesh.obj", vertices, faces)
    answer = kiss3d("export", mesh, "--to", to, "--out", tmp_path / "out")
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert answer.err.count("kiss3d: ") == 1
    assert not (tmp_path / "out").exists()


def test_a_flat_mesh_has_no_height(kiss3d, tmp_path):
    flat = _write(tmp_path / "flat.obj", [(0, 0, 0), (1, 0, 0), (0, 0, 1)], [(0, 2, 1)])
    answer = kiss3d("export", flat, "--to", "godot", "--height", "1m", "--out", tmp_path / "out")
    assert (answer.code, "lies flat" in answer.err) == (2, True)


def test_nothing_is_written_over_the_mesh_itself(kiss3d, tmp_path, box):
    before = box.read_bytes()
    answer = kiss3d("export", box, "--to", "blender", "--out", box)
    assert answer.code == 2
    assert "over the mesh itself" in answer.err
    assert box.read_bytes() == before


def test_a_run_without_a_mesh_and_what_is_no_run(kiss3d, tmp_path, finished_run):
    copy = shutil.copytree(finished_run["run_dir"], tmp_path / "run")
    shutil.rmtree(copy / "refine")
    answer = kiss3d("export", copy, "--to", "web")
    assert (answer.code, "has no mesh yet" in answer.err) == (2, True)
    assert "kiss3d resume" in answer.err
    assert kiss3d("export", tmp_path / "nothing", "--to", "web").code == 2
    assert kiss3d("export", tmp_path, "--to", "web").code == 2


def test_the_record_of_an_export_as_json(kiss3d, tmp_path, box):
    answer = kiss3d("export", box, "--to", "godot", "--out", tmp_path / "out", "--json")
    assert answer.json["closed"]
    assert answer.json["size"] == [1, 2, 3]
    assert json.loads(json.dumps(answer.json)) == answer.json
    refused = kiss3d("export", box, "--to", "godot", "--height", "80", "--json")
    assert refused.json["error"]["place"] == "--height"
