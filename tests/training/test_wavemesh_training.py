"""Learning reconstruction in small: data, augmentation, some steps, export; and overfitting, which takes minutes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.geometry.cameras import Cameras, bundle_cameras
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.inference import Sampling, draw
from kiss3d_cli.models.wavemesh.weights import load
from kiss3d_cli.training import fields
from kiss3d_cli.training.fields import FieldRecipe, FieldShard, field_path, make_fields, write_fields
from kiss3d_cli.training.finish import finish
from kiss3d_cli.training.loop import TrainSettings, train
from kiss3d_cli.training.wavemesh import FieldBatches, WaveMeshTask, mirrored, overlap, tensors, turned
from wavemesh_objects import GRID, TINY, around, field, lamp

SETTINGS = TrainSettings(batch=2, steps=12, rate=3e-3, warmup=0.1, average=0.8)


def cameras_of(found: fields.Field) -> Cameras:
    poses = torch.from_numpy(np.array(found.poses))
    return Cameras(poses, around().projection[: len(poses)])


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """One object and its mirror image."""
    folder = tmp_path_factory.mktemp("fields")
    one = field()
    write_fields(field_path(folder, 0), [one, mirrored(one)], ["lamp", "pmal"], FieldRecipe(None, resolution=16))
    return folder


def test_the_hull_holds_the_object_and_the_views_show_it(shard):
    found = FieldShard(field_path(shard, 0)).read(0)
    truth, hull, images = tensors([found], [range(4)], np.ones(1, bool))
    inside, allowed = truth < 0, hull < 0
    assert int(inside.sum()) > 100
    assert int((inside & ~allowed).sum()) <= 0.02 * int(inside.sum())
    assert 0.5 < overlap(truth[0], hull[0]) < 1
    assert bool(((images.planes[:, :, 6] > 0.5).flatten(2).sum(2) > 300).all())
    normals = images.planes[0, :, 3:6]
    known = images.planes[0, :, 6] > 0.99
    assert float(normals.norm(dim=1)[known].mean()) > 0.95


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_field_is_that_of_the_turned_object(quarters):
    mesh = lamp()
    angle = -quarters * math.pi / 2
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    found = turned(field(mesh, around()), quarters)
    wanted = field(mesh.with_vertices(mesh.vertices @ rotation.T), cameras_of(found))
    assert np.mean((found.truth < 0) != (wanted.truth < 0)) < 0.01
    assert np.abs(found.hulls.astype(float) - wanted.hulls).mean() < 0.01
    assert np.abs(found.pictures.astype(float) - wanted.pictures).mean() < 1.0
    assert np.allclose(found.poses[:4], bundle_cameras().world_to_camera, atol=1e-6)


def test_a_mirrored_field_is_that_of_the_mirrored_object():
    mesh = lamp()
    other = mesh.with_vertices(mesh.vertices * torch.tensor([-1.0, 1, 1]))
    found = mirrored(field(mesh, around()))
    wanted = field(type(other)(other.vertices, other.faces.flip(1), mesh.colors), cameras_of(found))
    assert np.mean((found.truth < 0) != (wanted.truth < 0)) < 0.01
    assert np.abs(found.hulls.astype(float) - wanted.hulls).mean() < 0.01
    assert np.abs(found.pictures.astype(float) - wanted.pictures).mean() < 1.0
    assert np.allclose(found.poses[:4], bundle_cameras().world_to_camera, atol=1e-6)


def test_random_cameras_see_the_whole_object_and_the_hull_of_any_of_them_holds_it():
    mesh = fields.placed(lamp())
    cameras = fields.ring_and_around(mesh, np.random.default_rng(0))
    found = field(mesh, cameras)
    masks = found.pictures[4:, ..., 6]
    edge = np.concatenate([masks[:, :, [0, -1]].ravel(), masks[:, [0, -1]].ravel()])
    assert found.poses.shape == (8, 4, 4)
    assert not edge.any()
    for view in range(8):
        assert np.mean(found.hulls[view][found.truth < 0] < 0) > 0.98
    truth, hull, images = tensors([found, found], [[5], [6, 4, 1]], np.ones(2, bool))
    assert images.given.tolist() == [[True, False, False], [True, True, True]]
    assert np.array_equal(hull[0].numpy(), found.hulls[5].astype(np.float32))
    assert overlap(truth[0], hull[0]) < overlap(truth[1], hull[1]) < 1
    # poses and focal lengths are those of the pictures: the whole object lies in them
    middle = images.rows([1]).seen_at(mesh.vertices)
    assert float(middle[..., :2].abs().max()) < 1


def test_batches_come_from_the_ring_and_from_anywhere(tmp_path):
    one = field(None, around())
    write_fields(field_path(tmp_path, 0), [one], ["lamp"], FieldRecipe(None, resolution=16))
    seen = [FieldBatches(tmp_path, TINY, 4, 0).batch(step).images for step in range(12)]
    counts = {int(count) for images in seen for count in images.given.sum(1)}
    assert counts >= {1, 2, 3, 4, 5, 6}
    focal = {round(float(value), 3) for images in seen for value in images.focal.unique()}
    assert len(focal) == 3


def test_the_loss_falls_goes_on_where_it_stopped_and_what_is_exported_loads(shard, tmp_path, monkeypatch):
    """The same batch again and again: which objects come next does not blur the fall."""
    honest = FieldBatches.batch
    monkeypatch.setattr(FieldBatches, "batch", lambda self, step, rank=0: honest(self, 1))
    task = WaveMeshTask(shard, shard, TINY)
    checkpoint = train(task, tmp_path / "whole", SETTINGS)
    train(WaveMeshTask(shard, None, TINY), tmp_path / "parts", SETTINGS, stop=lambda step: step == 5)
    train(WaveMeshTask(shard, None, TINY), tmp_path / "parts", SETTINGS)
    rows = {
        name: [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("whole", "parts")
    }
    loss = {name: [row["loss"] for row in found if "loss" in row] for name, found in rows.items()}
    assert loss["whole"] == loss["parts"]
    coefficients = [row["coefficients"] for row in rows["whole"] if "loss" in row]
    assert coefficients[-1] < 0.99 * coefficients[0]
    held_out = next(row["held_out"] for row in rows["whole"] if "held_out" in row)
    assert 0 < held_out["hull_iou"] < 1
    done = finish(task, checkpoint, tmp_path / "whole")
    assert load(done.weights).sha256 == done.sha256
    assert "field, held out" in done.report.read_text(encoding="utf-8")


def test_a_checkpoint_of_another_wavelet_or_schedule_is_refused(shard, tmp_path):
    train(WaveMeshTask(shard, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 1)
    for change in ({"wavelet": "haar"}, {"schedule": "linear"}):
        other = WaveMeshConfig.of({**TINY.as_dict(), **change})
        with pytest.raises(BadInput, match="another network"):
            train(WaveMeshTask(shard, None, other), tmp_path, SETTINGS)


def test_fields_of_another_grid_damaged_ones_and_none_are_said(shard, tmp_path):
    with pytest.raises(BadInput, match="for a network of 32"):
        WaveMeshTask(shard, None, WaveMeshConfig(widths=(16, 16))).network()
    with pytest.raises(Missing, match="no signed distances"):
        FieldBatches(tmp_path, TINY, 2, 0)
    field_path(tmp_path, 0).write_bytes(field_path(shard, 0).read_bytes()[:-100])
    with pytest.raises(BadInput, match="damaged"):
        FieldShard(field_path(tmp_path, 0))


def test_shards_are_made_alike_and_another_recipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "OBJECTS", 1)
    monkeypatch.setattr(fields, "draw_object", lambda rng: lamp())
    recipe = FieldRecipe(None, 1.0, resolution=16)
    for name in ("one", "two"):
        assert make_fields(tmp_path / name, recipe, 1) == []
    first, second = (FieldShard(field_path(tmp_path / name, 0)).read(0) for name in ("one", "two"))
    assert np.array_equal(first.truth, second.truth)
    assert np.array_equal(first.pictures, second.pictures)
    with pytest.raises(BadInput, match="another recipe"):
        make_fields(tmp_path / "one", FieldRecipe(None, 1.0, resolution=32), 1)


@pytest.mark.slow
def test_ten_objects_are_learned_by_heart(tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "OBJECTS", 10)
    make_fields(tmp_path, FieldRecipe(None, 1.0, 5, resolution=GRID.resolution), 1)
    config = WaveMeshConfig(resolution=GRID.resolution, widths=(32, 64, 64))
    task = WaveMeshTask(tmp_path, None, config)
    checkpoint = train(task, tmp_path / "run", TrainSettings(batch=10, steps=2500, rate=1e-3))
    network = load(finish(task, checkpoint, tmp_path / "run").weights).network
    shard = FieldShard(field_path(tmp_path, 0))
    found = []
    for number in range(shard.count):
        truth, hull, images = tensors([shard.read(number)], [range(4)], np.ones(1, bool))
        found.append(overlap(draw(network, hull, images, Sampling(symmetries=8))[0], truth[0]))
    assert np.mean(found) >= 0.95
