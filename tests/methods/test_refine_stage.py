"""The refine stage as the pipeline runs it: files in, files out, on bundles of several sizes."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
import trimesh

from ellipsoids import Ellipsoid, cast
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.refine.isomer import Refined
from kiss3d_cli.geometry.settings import IsomerSettings as Geometry
from kiss3d_cli.geometry.surface.manifold import find_defects
from kiss3d_cli.image.bundle import Bundle, join_bundle
from kiss3d_cli.image.png import write_png
from kiss3d_cli.methods.refine.isomer import IsomerSettings, _geometry, _with_faces
from support.methods import Call, context, integrate_small, method

ISOMER = method("refine", "isomer")
BODY = Ellipsoid((0.05, 0.02, 0.1), (0.5, 0.75, 0.35))


@pytest.fixture
def call(tmp_path, monkeypatch):
    integrate_small(monkeypatch)

    def make(start: Mesh, tile: int = 80, **settings: object) -> Call:
        seen = cast([BODY], tile)
        colors = torch.where(seen.mask[..., None], seen.normals.abs(), 1.0)
        source = tmp_path / "in"
        source.mkdir()
        write_png(source / "bundle.png", join_bundle(Bundle(colors, seen.normals, seen.mask)))
        write_mesh(source / "mesh.ply", start)
        small = {"steps": 3, "size": 96, "target_faces": 4000, "texture_size": 256, **settings}
        inputs = {reference: source / reference.split("/")[1] for reference in ISOMER.reads}
        return Call(ISOMER, context("refine", tmp_path, inputs), {"refine": small})

    return make


def start() -> Mesh:
    ball = trimesh.creation.icosphere(3)
    points = torch.tensor(ball.vertices.copy() * 0.6 + BODY.center, dtype=torch.float32)
    return Mesh(points, torch.tensor(ball.faces.copy(), dtype=torch.int64))


@pytest.mark.parametrize("way", ["reconstruct.hull", "reconstruct.lrm", "refine.isomer"])
def test_a_bundle_without_normals_is_told_with_how_to_get_another(call, way):
    """Flux drew it: its user can't write other normals."""
    work = call(start())
    write_png(work.context.inputs["bundle/bundle.png"], torch.full((160, 320, 3), 128, dtype=torch.uint8).numpy())
    stage, _, name = way.partition(".")
    with pytest.raises(BadInput, match="has no background") as caught:
        dataclasses.replace(work, method=method(stage, name))()
    assert caught.value.hint is not None
    assert "seed" in caught.value.hint
    assert "bundle.method=reference" in caught.value.hint


@pytest.mark.parametrize("tile", [80, 128])
def test_a_textured_mesh_of_the_size_asked_for(call, tile):
    work = call(start(), tile)()
    written = sorted(path.name for path in work.output.iterdir())
    assert {"mesh.glb", "mesh.obj", "mesh.ply"} <= set(written)
    mesh = trimesh.load(work.output / "mesh.ply", process=False)
    assert mesh.is_watertight
    assert 2000 < len(mesh.faces) <= 4000
    assert work.facts["mesh"]["components"] == 1
    assert len(work.facts["losses"]) == 3
    distance = BODY.distance(torch.tensor(mesh.vertices)).abs()
    assert distance[torch.tensor(mesh.vertices[:, 1]) > -0.6].median() < 0.02
    assert work.warnings == []


def test_a_missing_back_end_is_told_and_replaced(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    work = call(start(), rasterizer="nvdiffrast", steps=1, texture=False)()
    assert len(work.warnings) == 1
    assert "nvdiffrast is not installed" in work.warnings[0]
    assert "built-in rasteriser is used instead" in work.warnings[0]
    assert (work.output / "mesh.glb").exists()


def test_an_open_start_is_repaired_and_told(call):
    ball = start()
    work = call(Mesh(ball.vertices, ball.faces[7:]), steps=1, texture=False)()
    assert any("edges with one face" in warning for warning in work.warnings)
    assert trimesh.load(work.output / "mesh.ply", process=False).is_watertight


def test_a_start_without_faces(call):
    work = call(start())
    work.context.inputs["reconstruct/mesh.ply"].write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 0\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n"
    )
    with pytest.raises(BadInput, match="no faces") as error:
        work()
    assert error.value.hint


@pytest.mark.parametrize("target", [100, 300])
def test_few_faces_of_a_crumpled_surface(target):
    """Its edges are nearly all bent, and rounding them off would take more faces than there may be."""
    ball = trimesh.creation.icosphere(4)
    height = torch.rand(len(ball.vertices), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    points = torch.tensor(ball.vertices.copy()) * height[:, None]
    crumpled = Mesh(points.float(), torch.tensor(ball.faces.copy(), dtype=torch.int64))
    mesh = _with_faces(Refined(crumpled, (), (), unchanged=True), target, round_off=True)
    assert find_defects(mesh.faces).is_closed_manifold
    assert target / 2 <= len(mesh.faces) <= target


def test_the_settings_are_those_of_the_refinement_unless_changed():
    assert _geometry(IsomerSettings()) == Geometry()
    assert _geometry(IsomerSettings(coarse_decay=0.9)).coarse.decay == 0.9


@pytest.mark.parametrize("keep", [True, False])
def test_a_part_that_only_the_picture_shows_is_put_in(call, tmp_path, keep):
    """The views show an ellipsoid, the framed picture one with a green stem."""
    work = call(start(), tile=128, keep_parts=keep)
    mask = cast([BODY], 128).mask[0]
    row, column = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    top = int(mask.any(1).int().argmax())
    middle = int(column[mask].float().mean())
    stem = ((column - middle).abs() <= 1) & (row < top + 6) & (row > top - 14)
    rgba = torch.zeros(128, 128, 4, dtype=torch.uint8)
    rgba[mask] = torch.tensor([128, 128, 128, 255], dtype=torch.uint8)
    rgba[stem & ~mask] = torch.tensor([0, 200, 0, 255], dtype=torch.uint8)
    write_png(tmp_path / "in" / "image_rgba.png", rgba.numpy())
    work.context.inputs["preprocess/image_rgba.png"] = tmp_path / "in" / "image_rgba.png"
    done = work()
    assert any("put in from the picture" in warning for warning in done.warnings) == keep
    found = trimesh.load(done.output / "mesh.ply", process=False)
    assert found.is_watertight
    highest = found.vertices[:, 1].argmax()
    assert (found.vertices[highest, 1] > 0.9) == keep
    if keep:
        assert found.visual.vertex_colors[highest, :3].tolist() == pytest.approx([0, 200, 0], abs=12)
        painted = trimesh.load(done.output / "mesh.glb", force="mesh", process=False)
        colors = painted.visual.to_color().vertex_colors[painted.vertices[:, 1] > 0.9, :3].astype(int)
        assert abs(colors - [0, 200, 0]).mean() < 12
