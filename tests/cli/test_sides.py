"""Pictures of several sides of one object, from the command line to the mesh."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from conftest import Answer, call, small_settings
from kiss3d_cli import run
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.image.png import read_png

NAMES = ("front", "right", "back", "left")
COLORS = {"front": (0.9, 0.1, 0.1), "right": (0.1, 0.8, 0.1), "back": (0.1, 0.1, 0.9), "left": (0.9, 0.8, 0.1)}


def true_mesh() -> Mesh:
    """A body, a head in front and to the left, a tail behind and low: no two sides alike, deeper than wide."""
    vertices, faces = [], []
    for center, radii in (
        ((0.0, 0.0, 0.0), (0.25, 0.3, 0.7)),
        ((-0.1, 0.38, 0.55), (0.18, 0.3, 0.2)),
        ((0.15, -0.25, -0.7), (0.1, 0.12, 0.2)),
    ):
        ball = trimesh.creation.icosphere(subdivisions=3)
        faces.append(ball.faces + sum(len(part) for part in vertices))
        vertices.append(ball.vertices * radii + center)
    points = torch.tensor(np.concatenate(vertices), dtype=torch.float32)
    # each side in its own colour, so that one can tell which picture painted what
    towards = torch.stack([points[:, 2], points[:, 0] * 2.5, -points[:, 2], -points[:, 0] * 2.5], 1)
    colors = torch.tensor(list(COLORS.values()))[towards.argmax(1)]
    return Mesh(points, torch.tensor(np.concatenate(faces)), colors)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> dict[str, Path]:
    """The object from four sides, each picture of another size and cropped in another way, as photos are."""
    folder = tmp_path_factory.mktemp("photos")
    shown = render_colors(true_mesh(), orbit_cameras([0, 90, 180, 270], 5.0, 4.15), (320, 320))
    for index, name in enumerate(NAMES):
        rgba = torch.cat([shown.colors[index], shown.mask[index][..., None]], -1).numpy()
        image = Image.fromarray((255 * rgba).round().astype(np.uint8))
        if name == "right":
            image = image.crop((20, 30, 320, 290)).resize((450, 390))
        image.save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in NAMES}


def started(photos: dict[str, Path], out: Path, *sides: str, more: tuple[object, ...] = ()) -> Answer:
    given = [part for side in sides for part in (f"--{side}", photos[side])]
    return call("run", photos["front"], *given, "--preset", "draft", "--out", out, *small_settings(), *more, "--json")


def chamfer(result: Mesh | Path) -> float:
    """Mean distance both ways to the true mesh, after their boxes were laid on each other, in its units."""
    if isinstance(result, Path):
        found = trimesh.load(result, force="mesh", process=False)
    else:
        found = trimesh.Trimesh(result.vertices.numpy(), result.faces.numpy(), process=False)
    truth = true_mesh()
    wanted = trimesh.Trimesh(truth.vertices.numpy(), truth.faces.numpy(), process=False)
    scale = np.median(wanted.extents / found.extents)
    found.apply_scale(scale)
    found.apply_translation(wanted.bounds.mean(0) - found.bounds.mean(0))
    one, two = (trimesh.sample.sample_surface(mesh, 5000, seed=0)[0] for mesh in (found, wanted))
    return float(cKDTree(one).query(two)[0].mean() + cKDTree(two).query(one)[0].mean())


@pytest.fixture(scope="module")
def four(photos, tmp_path_factory) -> Path:
    answer = started(photos, tmp_path_factory.mktemp("four"), "right", "back", "left")
    assert answer.code == 0, answer.err
    return Path(answer.json["run_dir"])


def facts(folder: Path, stage: str) -> dict:
    return json.loads((folder / stage / "manifest.json").read_text(encoding="utf-8"))


def test_the_mesh_is_much_closer_to_the_true_one_than_from_the_front_alone(photos, four, tmp_path):
    shape = ("--until", "refine", "--set", "refine.texture=false")
    alone = started(photos, tmp_path, more=shape)
    two = started(photos, tmp_path, "right", more=shape)
    distances = [chamfer(Path(r) / "refine" / "mesh.ply") for r in (alone.json["run_dir"], two.json["run_dir"], four)]
    assert distances[2] < 0.25 * distances[0]
    assert distances[1] < 0.4 * distances[0]
    assert distances[2] < 0.1


def test_the_colours_are_those_of_the_photos(four):
    for name in NAMES:
        view = read_png(four / "multiview" / f"{name}.png").astype(float) / 255
        inside = view.min(-1) < 0.9
        mean = np.median(view[inside], 0)
        assert np.abs(mean - COLORS[name]).max() < 0.15, name
        assert (four / "sides" / f"{name}_rgba.png").is_file()
    mesh = trimesh.load(four / "refine" / "mesh.ply", process=False)
    colors = mesh.visual.vertex_colors[:, :3] / 255
    right = mesh.vertices[:, 0] > np.quantile(mesh.vertices[:, 0], 0.97)
    assert np.abs(np.median(colors[right], 0) - COLORS["right"]).max() < 0.15


def test_all_photos_show_the_object_at_one_scale(four):
    """Its two ends lie where the bundle's cameras would show them, which all four photos came from."""
    found = facts(four, "sides")
    assert max(found["facts"]["disagreement"].values()) < 0.15
    assert not found["warnings"]
    cover = {name: read_png(four / "sides" / f"{name}_rgba.png")[..., 3] > 127 for name in NAMES}
    truth = render_colors(true_mesh(), orbit_cameras([0, 90, 180, 270], 5.0, 4.15), (320, 320)).mask > 0.5
    alone = {name: read_png(four / "preprocess" / f"{'' if name == 'front' else f'{name}_'}mask.png") for name in NAMES}
    wanted = [np.ptp(np.flatnonzero(mask.numpy().any(1))) for mask in truth]

    def spread(masks: dict[str, np.ndarray]) -> float:
        """How much the pictures' scales differ, by the object's heights in them."""
        ratios = np.array([np.ptp(np.flatnonzero((masks[name] > 0).any(1))) for name in NAMES]) / np.array(wanted)
        return float(np.ptp(ratios) / ratios.mean())

    assert spread(cover) < 0.2
    assert spread(cover) < 0.5 * spread(alone)


def test_a_run_is_resumed_to_the_same_result_and_tells_which_input_changed(four, photos, tmp_path):
    folder = Path(shutil.copytree(four, tmp_path / "copy"))
    before = (folder / "refine" / "mesh.ply").read_bytes()
    answer = call("resume", folder, "--json")
    assert {s["status"] for s in answer.json["stages"]} <= {"skipped", "off"}
    shutil.rmtree(folder / "sides")
    shutil.rmtree(folder / "refine")
    answer = call("resume", folder, "--until", "refine", "--json")
    assert answer.code == 0, answer.err
    assert {s["name"] for s in answer.json["stages"] if s["status"] == "done"} == {"sides", "refine"}
    assert (folder / "refine" / "mesh.ply").read_bytes() == before
    keys = [
        facts(Path(r), "preprocess")["key"]
        for r in (four, started(photos, tmp_path, "left", more=("--until", "preprocess")).json["run_dir"])
    ]
    assert keys[0] != keys[1]


def test_the_back_alone_paints_and_the_front_gives_the_shape(photos, tmp_path):
    made = run(
        photos["front"],
        back=photos["back"],
        preset="draft",
        out=tmp_path,
        until="reference",
        settings={"preprocess.size": 128, "multiview.tile": 128},
    )
    view = read_png(made.file("multiview/back.png")).astype(float) / 255
    assert np.abs(np.median(view[view.min(-1) < 0.9], 0) - COLORS["back"]).max() < 0.15
    assert made.stages["sides"] == "done"


def test_photos_that_don_t_belong_together_are_told_with_numbers(photos, tmp_path):
    wrong = Image.new("RGBA", (300, 300))
    wrong.paste((20, 20, 20, 255), (40, 140, 260, 160))
    wrong.paste((20, 20, 20, 255), (40, 40, 60, 260))
    wrong.save(tmp_path / "wrong.png")
    answer = started({**photos, "right": tmp_path / "wrong.png"}, tmp_path, "right", "left", more=("--until", "sides"))
    warnings = facts(Path(answer.json["run_dir"]), "sides")["warnings"]
    assert any("% of the left picture's silhouette lies outside" in text for text in warnings), warnings
    answer = started({**photos, "back": photos["front"]}, tmp_path, "back", more=("--until", "preprocess"))
    warnings = facts(Path(answer.json["run_dir"]), "preprocess")["warnings"]
    assert any("shows the same as the front picture" in text for text in warnings), warnings


def test_bad_photos_are_refused(photos, tmp_path):
    nothing = tmp_path / "nothing.png"
    Image.new("RGBA", (100, 100), (90, 20, 20, 0)).save(nothing)
    answer = started({**photos, "left": nothing}, tmp_path, "left", more=("--until", "preprocess"))
    assert answer.code == 2
    assert "--left" in answer.err or "nothing.png" in answer.err
    answer = started({**photos, "left": tmp_path / "none.png"}, tmp_path, "left")
    assert answer.code == 2
    assert "none.png" in answer.err
    assert call("run", "--right", photos["right"], "--preset", "draft", "--out", tmp_path).code == 2
    many = call("run", photos["front"], photos["back"], "--right", photos["right"], "--out", tmp_path)
    assert many.code == 2
    assert "--right" in many.err


def test_a_network_draws_only_the_views_that_were_not_given(photos, tiny_models, tmp_path):
    settings = (
        "device.name=cpu",
        "preprocess.size=128",
        "multiview.tile=64",
        "multiview.steps=1",
        "caption.method=describe",
        f"models.root={tiny_models}",
        "bundle.method=reference",
    )
    chosen = [part for setting in settings for part in ("--set", setting)]
    some = ("--right", photos["right"])
    everything = [part for name in NAMES[1:] for part in (f"--{name}", photos[name])]
    for given, drawn in ((some, {"back", "left"}), (everything, set())):
        answer = call(
            "run",
            photos["front"],
            *given,
            "--preset",
            "12gb",
            "--out",
            tmp_path,
            "--until",
            "multiview",
            *chosen,
            "--json",
        )
        assert answer.code == 0, answer.err
        folder = Path(answer.json["run_dir"])
        assert set(facts(folder, "multiview")["facts"]["given"]) == set(NAMES) - drawn
        for name in set(NAMES) - drawn:
            view = read_png(folder / "multiview" / f"{name}.png").astype(float) / 255
            assert np.abs(np.median(view[view.min(-1) < 0.9], 0) - COLORS[name]).max() < 0.15
    assert "seed" not in facts(folder, "multiview")["facts"]  # nothing was drawn
