"""What engines and pages get beside the mesh: levels of detail, collision hulls, a page; and a small mesh for it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import struct
import sys

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.export import exporting, solid, usdz
from kiss3d_cli.export import hulls as hulls_module
from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.hulls import MOST_CORNERS, MOST_HULLS, convex_hulls
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.page import page
from kiss3d_cli.export.targets import TARGETS
from kiss3d_cli.geometry.io.gltf import codecs
from kiss3d_cli.geometry.texture.texture import Texture
from shapes import ball, box, corner_model, painted, together

LETTER = together(box((0, 0, 0), (3, 1, 1)), box((0, 1, 0), (1, 4, 1)))  # an L, 4 tall


def names(glb: bytes) -> list[str]:
    length = struct.unpack_from("<I", glb, 12)[0]
    return [node["name"] for node in json.loads(glb[20 : 20 + length])["nodes"]]


def test_levels_of_detail_lie_where_the_whole_lies(tmp_path):
    sphere = ball(rings=16, segments=32)
    model = Model(sphere.with_colors(painted(sphere.vertices)))
    made = export(model, Options(to="godot", lods=3, height=0.5, texture=64), "ball")
    assert list(made.files) == ["ball.glb", "ball_LOD1.glb", "ball_LOD2.glb"]
    whole, *simple = made.facts["lods"]
    assert whole == 960
    assert [count <= whole >> number for number, count in enumerate(simple, 1)] == [True, True]
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)
        low, high = trimesh.load(tmp_path / name, force="mesh").bounds
        assert low == pytest.approx([-0.25, 0, -0.25], abs=0.015)
        assert high == pytest.approx([0.25, 0.5, 0.25], abs=0.015)


def test_levels_end_where_no_face_can_go():
    made = export(corner_model(), Options(to="godot", lods=4), "corner")
    assert list(made.files) == ["corner.glb"]
    assert any("fewest" in note for note in made.notes)


@pytest.fixture(scope="module")
def hulls():
    pytest.importorskip("coacd")
    return convex_hulls(LETTER)


def test_hulls_are_convex_few_and_cover_the_shape(hulls):
    assert 2 <= len(hulls) <= MOST_HULLS
    bodies = [trimesh.Trimesh(hull.vertices, hull.faces) for hull in hulls]
    assert all(body.is_convex and body.is_watertight and body.volume > 0 for body in bodies)
    assert all(len(hull.vertices) <= MOST_CORNERS for hull in hulls)
    points = np.random.default_rng(0).uniform([0, 0, 0], [3, 4, 1], (2000, 3))
    inside = (points[:, 0] < 1) | (points[:, 1] < 1)
    covered = np.any([_within(body, points) for body in bodies], 0)
    assert covered[inside].mean() > 0.97
    assert covered[~inside].mean() < 0.1  # one hull around all of it would cover half
    again = convex_hulls(LETTER)
    assert all(torch.equal(a.vertices, b.vertices) for a, b in zip(hulls, again, strict=True))


def _within(body: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """By the planes of a convex body's faces."""
    heights = np.einsum("pfk,fk->pf", points[:, None] - body.triangles[:, 0], body.face_normals)
    return (heights < 1e-4).all(1)


@pytest.mark.parametrize(("to", "name"), [("unreal", "UCX_letter_00"), ("godot", "letter_0-convcolonly")])
def test_a_glb_names_its_hulls_as_the_importer_wants_them(to, name, hulls, monkeypatch):
    monkeypatch.setattr(exporting, "convex_hulls", lambda _mesh: hulls)
    made = export(Model(LETTER), Options(to=to, collision=True), "letter")
    first, *others = names(made.files["letter.glb"])
    assert first == "letter"
    assert others[0] == name
    assert len(others) == made.facts["hulls"] == len(hulls)


def test_unity_gets_its_hulls_in_a_file_of_objects(tmp_path):
    pytest.importorskip("coacd")
    made = export(Model(LETTER), Options(to="unity", collision=True, height=0.4), "letter")
    (tmp_path / "hulls.obj").write_bytes(made.files["letter_collision.obj"])
    assert made.files["letter_collision.obj"].count(b"\no hull_") + 1 == made.facts["hulls"]
    scene = trimesh.load(tmp_path / "hulls.obj", force="mesh")
    assert scene.bounds[0] == pytest.approx([-0.15, 0, -0.05], abs=0.01)
    assert scene.bounds[1] == pytest.approx([0.15, 0.4, 0.05], abs=0.01)


def test_what_a_page_loads_stays_small(monkeypatch):
    pytest.importorskip("meshopt")
    assert TARGETS["web"].bytes == 1_000_000
    monkeypatch.setitem(TARGETS, "web", dataclasses.replace(TARGETS["web"], bytes=300_000))
    model = corner_model()
    noise = torch.randint(0, 256, (1024, 1024, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noisy = Model(model.mesh, Texture(model.texture.uv, model.texture.corners, noise))
    asked = export(noisy, Options(to="web", texture=1024), "corner")
    assert len(asked.files["corner.glb"]) > 300_000  # what is asked for is not taken away
    made = export(noisy, Options(to="web"), "corner")
    assert len(made.files["corner.glb"]) <= 300_000
    assert made.facts["texture"] == [512, 512]
    fine = Model(ball(rings=100, segments=200))
    made = export(fine, Options(to="web"), "ball")
    whole = len(made.files["ball.glb"])
    monkeypatch.setitem(TARGETS, "web", dataclasses.replace(TARGETS["web"], bytes=whole // 2))
    made = export(fine, Options(to="web"), "ball")
    assert len(made.files["ball.glb"]) <= whole // 2
    assert any("it keeps" in note for note in made.notes)


def test_a_page_comes_with_the_mesh_and_names_it_safely():
    pytest.importorskip("meshopt")
    made = export(corner_model(), Options(to="web"), "corner")
    assert list(made.files) == ["corner.glb", "corner.html"]
    assert 'src="corner.glb"' in made.files["corner.html"].decode()
    text = page('a "b" <c> \u00e9.glb', "<i>&")
    assert 'src="a%20%22b%22%20%3Cc%3E%20%C3%A9.glb"' in text
    assert "<title>&lt;i&gt;&amp;</title>" in text
    assert text.count("https://") == 2
    assert "@google/model-viewer@4.4.0/" in text  # a version, whose hash stands beside it


@pytest.mark.parametrize(
    ("asked", "package"),
    [({"to": "web"}, "meshopt"), ({"to": "print"}, "manifold3d"), ({"to": "ar"}, "usd-core"),
     ({"to": "unreal", "collision": True}, "CoACD")],
)  # fmt: skip
def test_a_package_that_is_not_installed_is_named(asked, package, monkeypatch):
    for name in ("meshopt", "manifold3d", "pxr", "coacd"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises ImportError
    real = importlib.util.find_spec
    hidden = {"meshopt", "manifold3d", "pxr", "coacd"}
    for module in (codecs, hulls_module, solid, usdz):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in hidden else real(name))
    with pytest.raises(Missing, match=package) as caught:
        export(corner_model(), Options(**asked), "corner")
    assert caught.value.hint == "pip install 'kiss3d[export]'"
