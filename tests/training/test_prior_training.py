"""Training in small: views of made-up objects, some steps, killed and taken up again, exported, loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError, Missing
from kiss3d_cli.models.prior.network import PriorConfig
from kiss3d_cli.models.prior.weights import load
from kiss3d_cli.training import data
from kiss3d_cli.training import prior as learned
from kiss3d_cli.training.checkpoints import CHECKPOINT, read_checkpoint
from kiss3d_cli.training.data import Recipe, make_shards
from kiss3d_cli.training.finish import finish
from kiss3d_cli.training.loop import TrainSettings, schedule, train
from kiss3d_cli.training.prior import PriorTask, Views, mirrored
from kiss3d_cli.training.shards import read_shard, shard_path

TINY = PriorConfig((16, 16, 16), (1, 1, 1), 1)
SETTINGS = TrainSettings(batch=4, steps=24, rate=3e-3, warmup=0.1, held_out_views=6)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Eight views of made-up objects."""
    folder = tmp_path_factory.mktemp("views")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "VIEWS", 8)
        make_shards(folder, Recipe(None, 1.0, 3), 1)
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_loss_falls_and_what_is_exported_loads(views, tmp_path, monkeypatch):
    """The same batch again and again: which views come next does not blur the fall."""
    honest = Views.batch
    monkeypatch.setattr(Views, "batch", lambda self, step, rank=0: honest(self, 0))
    task = PriorTask(views, views, TINY)
    checkpoint = train(task, tmp_path, SETTINGS)
    depth = [row["depth"] for row in rows(tmp_path) if "depth" in row]
    assert len(depth) == SETTINGS.steps
    assert np.mean(depth[-6:]) < 0.95 * depth[0]
    held_out = [row["held_out"] for row in rows(tmp_path) if "held_out" in row][-1]
    assert held_out["depth"] > 0
    assert held_out["inflation"] > 0
    done = finish(task, checkpoint, tmp_path)
    loaded = load(done.weights)
    assert loaded.network.config == TINY
    assert loaded.sha256 == done.sha256
    page = done.report.read_text(encoding="utf-8")
    assert "depth, held out" in page
    assert "data:image/png" in page


def test_a_stopped_training_goes_on_to_the_same_losses(views, tmp_path):
    train(PriorTask(views, None, TINY), tmp_path / "whole", SETTINGS)
    train(PriorTask(views, None, TINY), tmp_path / "parts", SETTINGS, stop=lambda step: step == 10)
    log = tmp_path / "parts" / "log.jsonl"
    assert len(rows(tmp_path / "parts")) == 10
    with log.open("a") as opened:  # steps after the last checkpoint, and the line that the kill cut off
        opened.write('{"step": 11, "depth": 9.0}\n{"step": 1')
    train(PriorTask(views, None, TINY), tmp_path / "parts", SETTINGS)
    whole, parts = ([row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "parts"))
    assert whole == parts
    first, second = (read_checkpoint(tmp_path / name / CHECKPOINT).tensors for name in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_of_another_network_is_refused(views, tmp_path):
    train(PriorTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 1)
    with pytest.raises(BadInput, match="another network"):
        train(PriorTask(views, None, PriorConfig((24, 16, 16), (1, 1, 1), 1)), tmp_path, SETTINGS)


def test_a_checkpoint_that_does_not_name_its_task_goes_on(views, tmp_path):
    """As the first release wrote them."""
    task = PriorTask(views, None, TINY)
    path = train(task, tmp_path, SETTINGS, stop=lambda step: step == 2)
    with safe_open(path, framework="pt") as opened:
        described = opened.metadata()
    del described["task"]
    save_file(load_file(path), path, described)
    assert read_checkpoint(path).state.step == 2
    train(task, tmp_path, SETTINGS, stop=lambda step: step == 4)
    assert read_checkpoint(path).state.step == 4


def test_a_checkpoint_of_another_task_is_refused(views, tmp_path):
    path = train(PriorTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 1)
    with pytest.raises(BadInput, match="of kiss3d train prior, not of kiss3d train other"):
        read_checkpoint(path, "other")


def test_a_damaged_checkpoint_is_said(views, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(DamagedRun, match="can't be read"):
        train(PriorTask(views, None, TINY), tmp_path, SETTINGS)


def test_losses_that_are_not_finite_stop_the_training_and_the_last_checkpoint_stays(views, tmp_path, monkeypatch):
    train(PriorTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 3)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    honest = learned.losses

    def broken(answer, batch):
        return {key: value * torch.nan for key, value in honest(answer, batch).items()}

    monkeypatch.setattr(learned, "losses", broken)
    with pytest.raises(Kiss3dError, match="not finite any more, at step 3"):
        train(PriorTask(views, None, TINY), tmp_path, SETTINGS)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_a_full_disk_leaves_the_last_checkpoint(views, tmp_path, monkeypatch):
    train(PriorTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 1)
    kept = (tmp_path / CHECKPOINT).read_bytes()

    def full(self, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(Missing, match="No space left"):
        train(PriorTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 2)
    monkeypatch.undo()
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    assert not list(tmp_path.glob("*.partial"))


def test_training_without_accelerate_is_said(views, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(Missing, match="accelerate"):
        train(PriorTask(views, None, TINY), tmp_path, SETTINGS)


def test_no_views_and_damaged_views_are_said(tmp_path):
    with pytest.raises(Missing, match="no views"):
        Views(tmp_path, 2, 0)
    shard_path(tmp_path, 0).write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="damaged"):
        Views(tmp_path, 2, 0).batch(0)


def test_the_same_shard_is_drawn_again_alike(views, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "VIEWS", 8)
    make_shards(tmp_path, Recipe(None, 1.0, 3), 1)
    first, second = (read_shard(shard_path(folder, 0)) for folder in (views, tmp_path))
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_folder_of_views_of_another_recipe_is_refused(views):
    with pytest.raises(BadInput, match="another recipe"):
        make_shards(views, Recipe(None, 1.0, 4), 1)


def test_a_mirrored_batch_mirrored_again_is_itself(views):
    batch = Views(views, 3, 0).batch(0)
    turned = mirrored(batch)
    assert not torch.equal(turned.depth, batch.depth)
    assert all(torch.equal(a, b) for a, b in zip(vars(batch).values(), vars(mirrored(turned)).values(), strict=True))


def test_the_schedule_rises_and_ends_at_zero():
    values = [schedule(share, 0.1) for share in (0, 0.05, 0.1, 0.5, 1)]
    assert values[0] < 0.05 < values[1] < values[2]
    assert values[2] > values[3] > values[4] == pytest.approx(0)
