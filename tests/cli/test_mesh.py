"""A coarse mesh of the user's own, enhanced: from the command line to the result in its own frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from conftest import call, small_settings
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.clean import Frame, mesh_anew
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.image.png import read_png
from kiss3d_cli.methods.bundle.drawing import Studio

PLACE = np.array([120.0, -40.0, 7.0])
UNIT = 50.0


def coarse() -> trimesh.Trimesh:
    """320 faces, longer in front and to one side, in units and at a place of its own; its colours tell the place."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    points = ball.vertices * [0.5, 0.4, 0.8]
    points[:, 1] += 0.3 * np.clip(points[:, 2], 0, None)
    points[:, 0] += 0.4 * np.clip(points[:, 0], 0, None) ** 2
    colors = (255 * (points - points.min(0)) / np.ptp(points, axis=0)).round().astype(np.uint8)
    return trimesh.Trimesh(points * UNIT + PLACE, ball.faces, vertex_colors=colors, process=False)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """Every face by itself, as in an STL, and the first few left out: open, and nothing shared."""
    mesh = coarse()
    corners = mesh.faces[4:].reshape(-1)
    soup = trimesh.Trimesh(
        mesh.vertices[corners],
        np.arange(len(corners)).reshape(-1, 3),
        vertex_colors=mesh.visual.vertex_colors[corners],
        process=False,
    )
    path = tmp_path_factory.mktemp("given") / "coarse.ply"
    soup.export(path)
    return path


@pytest.fixture(scope="module")
def enhanced(given, tmp_path_factory) -> Path:
    answer = call(
        "run", "--mesh", given, "--text", "a red fox", "--preset", "draft", "--gt", given, "--out",
        tmp_path_factory.mktemp("enhanced"), *small_settings(), "--set", "refine.target_faces=40000", "--set",
        "reference.tile=128", "--set", "eval.points=4000", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert Path(answer.json["mesh"]).parent.name == "place"
    return Path(answer.json["run_dir"])


def test_draft_meshes_it_anew_where_it_lay_and_keeps_its_colours(enhanced):
    assert enhanced.name.startswith("coarse")
    truth = coarse()
    for name in ("mesh.glb", "mesh.obj", "mesh.ply"):
        found = trimesh.load(enhanced / "place" / name, force="mesh", process=False)
        assert np.abs(found.bounds - truth.bounds).max() < 0.02 * UNIT, name
    found = trimesh.load(enhanced / "place" / "mesh.ply", process=False)
    shape = report(np.asarray(found.vertices), np.asarray(found.faces))
    assert shape.watertight
    assert shape.components == 1
    lengths = found.edges_unique_length
    assert lengths.std() < 0.35 * lengths.mean()
    dense, _ = trimesh.sample.sample_surface(truth, 40000, seed=0)
    assert cKDTree(dense).query(found.vertices)[0].max() < 0.04 * UNIT
    wanted = (found.vertices - truth.vertices.min(0)) / np.ptp(truth.vertices, axis=0)
    error = np.abs(found.visual.vertex_colors[:, :3] / 255 - wanted)
    assert error.mean() < 0.02
    assert np.quantile(error, 0.99) < 0.08


def test_it_is_measured_in_its_own_frame_and_described_by_the_words(enhanced):
    metrics = json.loads((enhanced / "eval" / "metrics.json").read_text(encoding="utf-8"))
    manifest = json.loads((enhanced / "eval" / "manifest.json").read_text(encoding="utf-8"))
    assert "place/mesh.ply" in manifest["inputs"]
    assert manifest["facts"]["chamfer_l1"] < 0.03, metrics
    caption = json.loads((enhanced / "caption" / "caption.json").read_text(encoding="utf-8"))
    assert caption["caption"] == "a red fox"
    check = json.loads((enhanced / "check" / "check.json").read_text(encoding="utf-8"))
    assert check["mask_iou"] > 0.95


def test_a_run_is_resumed_to_the_same_bytes(enhanced, tmp_path):
    folder = Path(shutil.copytree(enhanced, tmp_path / "copy"))
    for stage in ("preprocess", "place"):
        shutil.rmtree(folder / stage)
    answer = call("resume", folder, "--json")
    assert answer.code == 0, answer.err
    assert {s["name"] for s in answer.json["stages"] if s["status"] == "done"} == {"preprocess", "place"}
    for path in ("preprocess/mesh.ply", "place/mesh.glb"):
        assert (folder / path).read_bytes() == (enhanced / path).read_bytes()


@pytest.mark.parametrize("up", ["y", "z"])
def test_into_the_world_and_back(up):
    mesh = coarse()
    points = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float64)
    frame = Frame.of(Mesh(points, torch.tensor(np.asarray(mesh.faces))), up, 0.7)
    world = frame.into_world(points)
    assert float(world.abs().amax()) == pytest.approx(0.7)
    assert torch.allclose(frame.out_of_world(world), points)
    highest, front = (1, 2) if up == "y" else (2, 1)
    assert int(world[:, 1].argmax()) == int(points[:, highest].argmax())
    sign = 1 if up == "y" else -1
    assert int(world[:, 2].argmax()) == int((sign * points[:, front]).argmax())
    assert torch.linalg.det((world[:3] - world[3:6]).T @ torch.linalg.inv((points[:3] - points[3:6]).T)) > 0


def test_meshing_anew_stays_on_the_surface():
    """A cube: its faces stay where they are, its edges lose less than half the length of the new ones."""
    box = trimesh.creation.box()
    colors = torch.tensor(np.asarray(box.vertices) + 0.5, dtype=torch.float32)
    mesh = Mesh(
        torch.tensor(np.asarray(box.vertices), dtype=torch.float32), torch.tensor(np.asarray(box.faces)), colors
    )
    anew = mesh_anew(mesh, 0.1)
    assert anew.defects.is_closed_manifold
    points = anew.mesh.vertices
    assert float((points.abs().amax(1) - 0.5).abs().max()) < 0.04
    assert float(((points.abs().amax(1) - 0.5).abs() < 1e-4).float().mean()) > 0.9
    assert len(points) > 400
    assert float((anew.mesh.colors - (points + 0.5)).abs().max()) < 0.05


@pytest.mark.parametrize(("arguments", "cause"), [
    (("figure.png", "--mesh", "given"), "both"),
    (("--mesh", "nothing.obj"), "no such mesh"),
    (("--mesh", "empty.ply"), "empty.ply"),
    (("--mesh", "given", "--strength", "1.5"), "bundle.strength"),
])  # fmt: skip
def test_what_can_t_be_enhanced_is_refused(arguments, cause, picture, given, tmp_path):
    (tmp_path / "empty.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    places = {"figure.png": picture, "given": given, "empty.ply": tmp_path / "empty.ply"}
    answer = call("run", *[places.get(part, part) for part in arguments], "--preset", "draft", "--out", tmp_path)
    assert answer.code == 2
    assert cause in answer.err


def test_the_published_way_has_its_own_strength_control_and_lora(given, tiny_models, tmp_path):
    answer = call("run", "--mesh", given, "--text", "a fox", "--preset", "12gb", "--out", tmp_path, "--until", "bundle",
                  *neural(tiny_models, "bundle.method=enhance"), "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    bundle, prompt = (
        json.loads((folder / s / "manifest.json").read_text(encoding="utf-8")) for s in ("bundle", "prompt")
    )
    assert bundle["facts"]["steps"] == 4, "at a strength of 0.95"
    assert set(bundle["models"]) == {"flux-dev", "redux-lora", "flux-controlnet"}
    assert set(prompt["models"]) == {"flux-dev", "redux-lora", "t5-tokenizer", "clip-tokenizer"}, "no Redux"
    assert "bundle.control_scales" not in bundle["settings"]


def neural(root: Path, *more: str) -> list[str]:
    settings = ("device.name=cpu", "preprocess.size=128", "preprocess.edge=0.1", "reference.tile=64",
                "bundle.tile=64", "bundle.steps=4", f"models.root={root}", *more)  # fmt: skip
    return [part for setting in settings for part in ("--set", setting)]


def test_flux_redraws_it_and_the_mesh_is_the_start(given, tiny_models, tmp_path, monkeypatch):
    """Every network runs. Random weights draw no object, though: what Flux started from takes its picture's place."""
    draw = Studio.draw

    def drawn(studio, context, *arguments):
        draw(studio, context, *arguments)
        assert read_png(context.output / "bundle.png").shape == (128, 256, 3)
        shutil.copyfile(context.inputs["reference/reference_bundle.png"], context.output / "bundle.png")

    monkeypatch.setattr(Studio, "draw", drawn)
    chosen = neural(
        tiny_models, "bundle.redux=false", "reconstruct.method=mesh", "refine.size=128", "refine.steps=2",
        "refine.integrate=false", "refine.target_faces=1000", "refine.texture=false",
    )  # fmt: skip
    answer = call("run", "--mesh", given, "--text", "a fox", "--strength", ".5", "--preset", "12gb", "--out", tmp_path,
                  *chosen, "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    folder = Path(answer.json["run_dir"])
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["bundle.strength"] == 0.5
    assert manifest["facts"]["steps"] == 2
    assert (folder / "bundle" / "control_tile.png").is_file()
    assert "flux-controlnet" in manifest["models"]
    found = trimesh.load(answer.json["mesh"], force="mesh")
    assert np.abs(found.bounds - coarse().bounds).max() < 0.1 * UNIT
