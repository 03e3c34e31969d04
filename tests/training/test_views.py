"""Views of things whose depth, normals and colours are known by calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.training.data import Recipe, make_shards
from kiss3d_cli.training.held_out import HELD_OUT, family_of, may_be_trained_on
from kiss3d_cli.training.looks import draw_look
from kiss3d_cli.training.objects import Entry, find_objects, normalised, read_object, signature, without_twins
from kiss3d_cli.training.procedural import KINDS
from kiss3d_cli.training.views import Pose, draw_view


def to_mesh(source, color=(0.2, 0.5, 0.8)):
    vertices = torch.tensor(np.asarray(source.vertices)).float()
    return Mesh(vertices, torch.tensor(np.asarray(source.faces)).long(), torch.tensor(color).expand(len(vertices), 3))


def view(mesh, pose, seed=0):
    rng = np.random.default_rng(seed)
    return draw_view(normalised(mesh, "mesh"), pose, rng, draw_look(rng))


def test_the_depths_of_a_ball_are_those_of_its_equation():
    """Rays against a ball, in units of the distance to its middle."""
    sample = view(to_mesh(trimesh.creation.icosphere(5)), Pose(20, 10, 15))
    radius = 0.85 * math.tan(math.radians(7.5))
    side = math.tan(math.asin(radius)) / 0.85  # half the picture's, seen from the camera
    line = (np.arange(128) + 0.5) / 64 - 1
    slope = 1 + side**2 * (line[None, :] ** 2 + line[:, None] ** 2)
    root = 1 - slope * (1 - radius**2)
    inner = sample.known & (root > 0.1 * root.max())
    for found, sign in zip(sample.depth.astype(float), (-1, 1), strict=True):
        expected = (1 - (1 + sign * np.sqrt(root.clip(0))) / slope) / side
        assert np.abs(found - expected)[inner].max() < 0.02
    assert sample.known.sum() == pytest.approx(math.pi * (0.85 * 64) ** 2, rel=0.02)
    normal = np.stack([np.broadcast_to(line, (128, 128)), np.broadcast_to(-line[:, None], (128, 128))], -1) / 0.85
    assert np.abs(sample.normals[..., :2] / 127 - normal)[inner].max() < 0.15


def test_a_box_seen_askew_has_its_own_depths_and_colours_behind():
    """A unit cube from 30 degrees to its right: the near upright edge shows at 0.634 of its width, the far one, where
    the red back begins, at 0.366; left and right of the near edge the front recedes by tan 30 and tan 60.
    """
    mesh = to_mesh(trimesh.creation.box([1, 1, 1]).subdivide().subdivide().subdivide())
    behind = (mesh.vertices[:, 2] < -0.49).float()[:, None]
    mesh = mesh.with_colors(behind * torch.tensor([1.0, 0, 0]) + (1 - behind) * torch.tensor([0, 0, 1.0]))
    rng = np.random.default_rng(4)
    look = next(look for look in iter(lambda: draw_look(rng), None) if look.paint == "own" and look.texture == 0)
    sample = draw_view(normalised(mesh, "box"), Pose(30, 0, 15), rng, look)
    row = np.flatnonzero(sample.known[64])
    front = sample.depth[0, 64, row].astype(float)
    edge = int(front.argmax())
    assert edge / len(row) == pytest.approx(0.634, abs=0.05)
    pixel = 2 / 128
    left, right = np.diff(front[4 : edge - 4]).mean() / pixel, np.diff(front[edge + 4 : -4]).mean() / pixel
    assert left == pytest.approx(math.tan(math.radians(30)), abs=0.1)
    assert right == pytest.approx(-math.tan(math.radians(60)), abs=0.3)
    red = sample.back[64, row, 0] > sample.back[64, row, 2]
    assert red[: int(0.3 * len(row))].mean() < 0.1
    assert red[int(0.45 * len(row)) :].mean() > 0.9


def test_air_between_two_plates_is_a_gap_and_a_solid_has_none():
    plates = []
    for z in (-0.7, 0.7):
        plate = trimesh.creation.box([2, 1.4, 0.12])
        plate.apply_translation([0, 0, z])
        plates.append(plate)
    pair = view(to_mesh(trimesh.util.concatenate(plates)), Pose(0, 0, 20))
    assert pair.known.sum() > 4000
    assert pair.gap[40:90, 30:100].mean() > 0.95
    ball = view(to_mesh(trimesh.creation.icosphere(4)), Pose(0, 0, 20))
    assert ball.gap[ball.known].mean() < 0.03


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_of_made_up_object_is_a_coloured_solid(kind):
    for seed in range(3):
        mesh = normalised(kind(np.random.default_rng(seed)), kind.__name__)
        assert mesh.colors is not None
        assert 0 <= float(mesh.colors.min()) <= float(mesh.colors.max()) <= 1
        sides = mesh.vertices.amax(0) - mesh.vertices.amin(0)
        assert float(sides.max()) == pytest.approx(2, abs=1e-5)
        assert float(sides.min()) > 0.02


def test_held_out_families_and_known_meshes_are_not_trained_on():
    assert family_of("KayKit-Halloween", "gltf") == "halloween"
    assert family_of("bullet-random", "900") == "blocks"
    assert family_of("bullet-random", "899") is None
    assert may_be_trained_on("market-assets", "apple", "apple.glb")
    assert not may_be_trained_on("market-assets", "bunny", "model.gltf")
    assert not may_be_trained_on("KayKit-Halloween", "gltf", "pumpkin.gltf")
    assert len(HELD_OUT) == 6


def test_copies_are_found_by_their_shape_however_they_lie(tmp_path):
    """A turned, recoloured copy of a held-out object is dropped; another object of the same box is not."""
    rng = np.random.default_rng(0)
    first = trimesh.creation.box([2, 1, 0.6])
    copy = first.subdivide()
    copy.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    copy.vertices = copy.vertices * 3.7 + rng.normal(0, 1, 3)
    other = trimesh.creation.icosphere(3)
    other.apply_scale([1, 0.5, 0.3])
    entries = {}
    for name, mesh in {"first": first, "copy": copy, "other": other}.items():
        mesh.export(tmp_path / f"{name}.ply")
        entries[name] = Entry("set", "pack", name, None, True, False, tmp_path / f"{name}.ply")
    kept, notes = without_twins([entries["copy"], entries["other"]], [entries["first"]])
    assert [entry.name for entry in kept] == ["other"]
    assert any("copy" in note for note in notes)
    assert np.abs(signature(read_object(entries["first"])) - signature(read_object(entries["other"]))).max() > 0.05


def test_missing_empty_and_damaged_objects_are_said(tmp_path):
    with pytest.raises(Missing, match="no such folder"):
        find_objects(tmp_path / "nowhere")
    with pytest.raises(Missing, match="nothing to learn from"):
        find_objects(tmp_path)
    (tmp_path / "broken.ply").write_bytes(b"ply\nnot really")
    with pytest.raises((BadInput, Missing)):
        make_shards(tmp_path / "views", Recipe(tmp_path, 0.0, 0), 1)
    (tmp_path / "index.json").write_text('{"objects": [{"set": "../x"}]}')
    with pytest.raises(BadInput, match="index"):
        find_objects(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(BadInput, match="index"):
        find_objects(tmp_path)


def test_an_index_cannot_name_files_outside_its_folder(tmp_path):
    row = '{"set": "../other", "id": "a", "name": "n", "pack": "p", "flat": false, "tiny": false, "recolour": false}'
    (tmp_path / "index.json").write_text(f'{{"objects": [{row}]}}')
    with pytest.raises(BadInput, match="outside its folder"):
        find_objects(tmp_path)


def test_a_mesh_that_is_not_finite_or_has_no_area_is_refused():
    flat = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(BadInput, match="no surface"):
        normalised(flat, "flat")
    with pytest.raises(BadInput, match="not finite"):
        normalised(Mesh(torch.full((3, 3), torch.nan), torch.tensor([[0, 1, 2]])), "nan")
