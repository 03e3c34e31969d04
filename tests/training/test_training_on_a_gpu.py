"""Steps of the trainings on a GPU: one in name, which finds tensors of the wrong device, and a real one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kiss3d_cli.models.lvsm.config import KINDS, LvsmConfig
from kiss3d_cli.training import posed_data
from kiss3d_cli.training.data import Recipe
from kiss3d_cli.training.fields import FieldRecipe, field_path, write_fields
from kiss3d_cli.training.loop import TrainSettings, train
from kiss3d_cli.training.lvsm import LvsmTask
from kiss3d_cli.training.posed_data import make_posed
from kiss3d_cli.training.task import Task
from kiss3d_cli.training.wavemesh import WaveMeshTask, mirrored
from simulated_gpu import DEVICE, SIMULATED, gradient, simulated_gpu
from wavemesh_objects import TINY, field

SETTINGS = TrainSettings(batch=3, steps=6, rate=2e-3, warmup=0.1)
HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task[Any]]:
    views, fields = (tmp_path_factory.mktemp(name) for name in ("posed", "fields"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posed_data, "OBJECTS", 2)
        make_posed(views, Recipe(None, 1.0, 3, views=8, size=16), 1)
    one = field()
    write_fields(field_path(fields, 0), [one, mirrored(one)], ["lamp", "pmal"], FieldRecipe(None, resolution=16))
    posed = LvsmTask(views, None, LvsmConfig(KINDS[0], 16, 8, 32, 2, 1, 1, 8))
    return {"lvsm": posed, "wavemesh": WaveMeshTask(fields, None, TINY)}


@SIMULATED
@pytest.mark.parametrize("name", ["lvsm", "wavemesh"])
def test_losses_and_gradients_are_those_of_the_cpu(tasks: dict[str, Task[Any]], name: str) -> None:
    task = tasks[name]
    steps = range(6)  # of several kinds
    here, slopes = values(task, HOST, steps)
    with simulated_gpu():
        there, same = values(task, DEVICE, steps)
    assert there == here
    assert torch.allclose(same, slopes, atol=1e-6)


def values(task: Task[Any], device: torch.device, steps: range) -> tuple[list[dict[str, float]], Tensor]:
    """The losses of some steps of an untrained network, and the last one's gradient at its last layer."""
    torch.manual_seed(0)
    network = task.network().to(device)
    data = task.batches(3, 0, 1.0)
    found = [task.losses(network, data.placed(data.batch(step), device)) for step in steps]
    leaf = next(value for name, value in network.named_parameters() if name in ("head.bias", "leave.bias"))
    (slope,) = gradient(found[-1]["loss"], leaf)
    return [{key: float(value.detach()) for key, value in row.items()} for row in found], slope.cpu()


@pytest.mark.parametrize("name", ["lvsm", "wavemesh"])
def test_half_precision_learns_what_whole_does(tasks: dict[str, Task[Any]], tmp_path: Path, name: str) -> None:
    losses = []
    for precision in ("no", "bf16"):
        settings = dataclasses.replace(SETTINGS, precision=precision)
        losses.append(trained(tasks[name], tmp_path / precision, settings, "cpu"))
    assert losses[0][-1] != losses[1][-1]
    assert np.allclose(*losses, rtol=0.1)


def trained(task: Task[Any], folder: Path, settings: TrainSettings, device: str) -> list[float]:
    train(task, folder, settings, device=device)
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("name", ["lvsm", "wavemesh"])
def test_a_real_one_learns_what_the_cpu_learns(
    tasks: dict[str, Task[Any]], tmp_path: Path, name: str, precision: str
) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision, workers=2)
    here = trained(tasks[name], tmp_path / "cpu", settings, "cpu")
    train(tasks[name], tmp_path / "cuda", settings, device="cuda", stop=lambda step: step == 3)
    there = trained(tasks[name], tmp_path / "cuda", settings, "cuda")  # goes on
    assert len(there) == len(here)
    assert np.allclose(there, here, rtol=0.02 if precision == "no" else 0.1)
