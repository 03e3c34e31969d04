"""View synthesis in small: posed views of procedural objects, some steps, killed and taken up again, exported."""

from __future__ import annotations

import dataclasses
import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.conftest import call
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.rays import turned_to
from kiss3d_cli.models.lvsm.weights import export, load
from kiss3d_cli.models.lvsm.work import forward_flops
from kiss3d_cli.training import posed_data
from kiss3d_cli.training.assembled import legged
from kiss3d_cli.training.checkpoints import CHECKPOINT, read_checkpoint
from kiss3d_cli.training.data import Recipe
from kiss3d_cli.training.finish import finish
from kiss3d_cli.training.loop import TrainSettings, train
from kiss3d_cli.training.lvsm import LvsmTask, held_out_batches, nearest
from kiss3d_cli.training.lvsm_batches import Change, PosedBatches
from kiss3d_cli.training.lvsm_study import EDITS
from kiss3d_cli.training.objects import normalised
from kiss3d_cli.training.posed_data import make_posed
from kiss3d_cli.training.posed_shards import PosedShard, find_posed

CPU = torch.device("cpu")
TINY = LvsmConfig(KINDS[0], 16, 8, 32, 2, 1, 1, 8)
SETTINGS = TrainSettings(batch=4, steps=30, rate=4e-3, warmup=0.1, held_out_views=12)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Three pieces of furniture, each from eight sides."""
    folder = tmp_path_factory.mktemp("posed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posed_data, "OBJECTS", 3)
        patch.setattr(posed_data, "draw_object", lambda rng: normalised(legged(rng), "legged"))
        make_posed(folder, Recipe(None, 1.0, 3, views=8, size=16), 1)
    return folder


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_loss_falls_goes_on_after_a_stop_and_what_is_exported_loads(views, tmp_path, monkeypatch):
    """The same batch again and again: which views come next does not blur the fall."""
    honest = PosedBatches.batch
    monkeypatch.setattr(PosedBatches, "batch", lambda self, step, rank=0: honest(self, 0))
    task = LvsmTask(views, views, TINY)
    train(LvsmTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 10)
    checkpoint = train(task, tmp_path, SETTINGS)
    loss = [row["loss"] for row in rows(tmp_path) if "loss" in row]
    assert len(loss) == SETTINGS.steps
    assert np.mean(loss[-6:]) < 0.8 * loss[0]
    whole = train(LvsmTask(views, None, TINY), tmp_path / "whole", SETTINGS)
    assert [row["loss"] for row in rows(tmp_path / "whole")] == loss
    first, second = (read_checkpoint(path, "lvsm").tensors for path in (checkpoint, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)
    held_out = [row["held_out"] for row in rows(tmp_path) if "held_out" in row][-1]
    assert {"psnr", "nearest", "2 given", "guess", "1 given and guess"} <= held_out.keys()
    assert all(5 < value < 60 for value in held_out.values())
    done = finish(task, checkpoint, tmp_path)
    assert load(done.weights).network.config == TINY
    page = done.report.read_text(encoding="utf-8")
    assert "nearest alone, held out" in page
    assert "data:image/png" in page


def test_batches_are_the_same_for_the_same_step_and_of_every_kind(views):
    first, second = PosedBatches(views, 3, 0, size=16), PosedBatches(views, 3, 0, size=16)
    kinds = set()
    for step in range(24):
        a, b = (some.placed(some.batch(step), CPU) for some in (first, second))
        assert torch.equal(a.asked.rgba, b.asked.rgba)
        kinds.add((a.given.rgba.shape[1], a.guess is not None))
        assert not (a.guess is not None and a.given.rgba.shape[1] != 1)
    assert kinds >= {(1, True), (2, False), (3, False), (4, False)}


def test_batches_that_processes_make_ahead_are_the_same(views, tmp_path):
    """Whatever the order in which two processes end, and after a stop."""
    task = LvsmTask(views, None, TINY)
    alone, few = (dataclasses.replace(SETTINGS, steps=6, workers=workers) for workers in (0, 2))
    train(task, tmp_path / "alone", alone)
    train(task, tmp_path / "ahead", few, stop=lambda step: step == 3)
    train(task, tmp_path / "ahead", few)
    first, second = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / name)]
        for name in ("alone", "ahead")
    )
    assert first == second
    assert len(first) == 6


def test_several_views_are_shown_with_their_hull_and_now_and_then_without(views):
    first, second = (PosedBatches(views, 3, 0, size=16, carved=True) for _ in range(2))
    kinds = set()
    for step in range(40):
        a = first.placed(first.batch(step), CPU)
        kinds.add((a.given.rgba.shape[1], a.guess is not None))
    assert kinds >= {(1, True), (2, True), (3, True), (4, True)}
    assert any(count > 1 and not shown for count, shown in kinds)
    kept = len(first.hulls)
    assert kept
    step = next(step for step in range(40) if first.batch(step).given.rgba.shape[1] == 4)
    assert len(first.hulls) == kept, "what was carved is used again"
    a, b = (some.placed(some.batch(step), CPU) for some in (first, second))  # kept, and carved anew: the same
    assert (a.guess is None) == (b.guess is None)
    assert a.guess is None or torch.equal(a.guess, b.guess)
    (held,) = held_out_batches(views, TINY, [0, 1, 2, 3], False, 6)
    error = (held.guess[:, :, 3] - held.asked.rgba[:, :, 3]).abs().mean()
    assert float(error) < float((held.asked.rgba[:, :, 3]).mean()) / 2


def test_a_mirrored_batch_sees_mirrored_points(views):
    (batch,) = held_out_batches(views, TINY, [0, 1], False, 12)
    turned = batch.mirrored()
    assert torch.equal(turned.mirrored().asked.rgba, batch.asked.rgba)
    point = torch.tensor([0.3, 0.2, -0.4, 1.0])
    before = batch.given.world_to_camera @ point
    after = turned.given.world_to_camera @ (point * torch.tensor([-1.0, 1, 1, 1]))
    assert torch.allclose(after, before * torch.tensor([-1.0, 1, 1, 1]), atol=1e-5)
    assert (torch.linalg.det(turned.given.world_to_camera[..., :3, :3]) > 0.99).all()
    assert torch.allclose(
        turned_to(turned.given.world_to_camera, turned.given.world_to_camera[:, 0])[:, 0, 0, 2].abs().max(),
        torch.zeros(()),
        atol=1e-6,
    )


def test_white_stays_white_when_colours_change(views):
    (batch,) = held_out_batches(views, TINY, [0], True, 9)
    changed = dataclasses.replace(batch, change=Change.drawn(np.random.default_rng(1), 3)).changed()
    empty = batch.asked.rgba[:, :, 3:] == 0
    assert not torch.equal(changed.asked.rgba, batch.asked.rgba)
    assert torch.allclose(
        changed.asked.rgba[:, :, :3].mean(2, keepdim=True)[empty],
        batch.asked.rgba[:, :, :3].mean(2, keepdim=True)[empty],
        atol=1e-6,
    )
    assert torch.equal(changed.guess[:, :, 3], batch.guess[:, :, 3])


def test_the_nearest_view_is_the_one_with_the_most_similar_direction(views):
    (batch,) = held_out_batches(views, TINY, [0, 1, 2, 3], False, 6)
    assert batch.asked.rgba.shape[:2] == (3, 2)
    copied = nearest(batch)
    for number in range(3):
        for place in range(2):
            back = batch.asked.world_to_camera[number, place, 2, :3]
            best = max(range(4), key=lambda v: float(batch.given.world_to_camera[number, v, 2, :3] @ back))
            assert torch.equal(copied[number, place], batch.given.rgba[number, best, :3])


def test_views_of_another_size_too_few_or_none_are_said(views, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="16 pixels wide, not 64") as caught:
        PosedBatches(views, 2, 0, size=64)
    assert "--size 16" in caught.value.hint
    with pytest.raises(Missing, match="no posed views"):
        PosedBatches(tmp_path, 2, 0, size=16)
    monkeypatch.setattr(posed_data, "OBJECTS", 1)
    make_posed(tmp_path, Recipe(None, 1.0, 3, views=4, size=16), 1)
    with pytest.raises(BadInput, match="4 views of each object"):
        PosedBatches(tmp_path, 2, 0, size=16)


def test_a_checkpoint_of_another_kind_is_refused(views, tmp_path):
    path = train(LvsmTask(views, None, TINY), tmp_path, SETTINGS, stop=lambda step: step == 1)
    assert path == tmp_path / CHECKPOINT
    other = LvsmConfig(KINDS[1], 16, 8, 32, 2, 0, 1, 0)
    with pytest.raises(BadInput, match="another network"):
        train(LvsmTask(views, None, other), tmp_path, SETTINGS)


def test_shards_name_their_objects(views):
    (path,) = find_posed(views)
    assert PosedShard(path).names == ("procedural 0-0", "procedural 0-1", "procedural 0-2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training run with weights of no training that draw something."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = Lvsm(TINY)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    export(folder / "lvsm.safetensors", TINY, network.state_dict())
    return folder


def test_every_edit_of_a_study_has_its_sheet_its_table_and_its_answer(views, run, tmp_path):
    answer = call("study", "lvsm", run, "--views", views, "--out", tmp_path, "--objects", 3, "--json")
    assert answer.code == 0, answer.err
    assert list(answer.json["edits"]) == list(EDITS)
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    for name, found in answer.json["edits"].items():
        assert (tmp_path / f"{name}.png").stat().st_size > 100
        table = (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        assert len(table) == 1 + len(found["rows"])
        assert html.escape(found["answer"]) in page
    rows = {name: found["rows"] for name, found in answer.json["edits"].items()}
    assert rows["permute"][1]["kept"] > 90, "a scene is a set"
    assert rows["drop"][0]["kept"] == pytest.approx(100)
    assert [row["tokens"] for row in rows["drop"]] == [8, 7, 6, 4, 2, 1]
    assert rows["drop"][-1]["kept"] < rows["drop"][1]["kept"]
    assert rows["repeat"][1]["tokens"] == 16
    assert rows["interpolate"][0]["kept"] == pytest.approx(100)
    assert rows["interpolate"][-1]["psnr"] == pytest.approx(100)
    kept = {row["edit"]: row["kept"] for row in rows["identity"]}
    assert kept["2 of the sought token"] > max(kept["2 of the zero token"], kept["2 of the mean token"]) - 3
    assert kept["1 of the sought token"] > 40, "8 tokens of a network of no training"


def test_a_study_of_one_edit_is_the_same_again_and_an_unknown_one_is_refused(views, run, tmp_path):
    tables = []
    for name in ("one", "two"):
        answer = call("study", "lvsm", run, "--views", views, "--out", tmp_path / name, "--edit", "change")
        assert answer.code == 0, answer.err
        tables.append((tmp_path / name / "change.csv").read_bytes())
    assert tables[0] == tables[1]
    answer = call("study", "lvsm", run, "--views", views, "--edit", "invert")
    assert answer.code == 2
    assert "identity" in answer.err
    answer = call("study", "lvsm", tmp_path, "--views", views)
    assert answer.code == 3
    assert "kiss3d train lvsm" in answer.err


def test_the_command_trains_and_says_what_it_left(views, tmp_path):
    answer = call(
        "train", "lvsm", "--views", views, "--held-out", views, "--out", tmp_path, "--steps", 2, "--batch", 2,
        "--size", 16, "--width", 32, "--heads", 2, "--layers", 1, "--latents", 8, "--device", "cpu", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert load(Path(answer.json["weights"])).sha256 == answer.json["sha256"]
    assert "gradients are compared" in answer.err
    answer = call("train", "lvsm", "--views", views, "--out", tmp_path, "--heads", 7)
    assert answer.code == 2
    assert "7 heads" in answer.err


def test_the_command_draws_posed_views(tmp_path, monkeypatch):
    monkeypatch.setattr(posed_data, "OBJECTS", 1)
    options = ("--views", 5, "--size", 16, "--shards", 1, "--workers", 1, "--out", tmp_path)
    answer = call("train", "data", *options)
    assert answer.code == 0, answer.err
    assert "kiss3d train lvsm --views" in answer.out
    assert PosedShard(find_posed(tmp_path)[0]).views == 5
    answer = call("train", "data", "--layout", "gobjaverse", "--views", 12)
    assert answer.code == 2
    assert "--objects FOLDER" in answer.err


def test_operations_are_counted_as_torch_counts_them():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    for config in (TINY, LvsmConfig(KINDS[1], 16, 8, 32, 2, 0, 2, 0)):
        network = Lvsm(config)
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):  # of others it does not count attention
            network(torch.zeros(1, 2, 10, 16, 16), torch.zeros(1, 3, 11, 16, 16))
        assert forward_flops(config, 2, 3) == pytest.approx(counter.get_total_flops(), rel=0.01)
