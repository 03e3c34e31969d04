"""Checkpoints of a training run: everything that decides how it goes on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, DamagedRun, Missing
from kiss3d_cli.core.records import parse_json
from kiss3d_cli.training.task import Task

CHECKPOINT = "checkpoint.safetensors"
FIRST_TASK = "prior"
"""What checkpoints are of that do not say so."""


@dataclass
class Progress:
    """How far a training run is; `seconds` are those spent training, over all starts."""

    step: int = 0
    seconds: float = 0.0


def save(
    path: Path,
    network: torch.nn.Module,
    average: dict[str, Tensor],
    optimizer: Any,
    task: Task[Any],
    state: Progress,
) -> None:
    """Beside the last one first, then in its place: a kill or a full disk leaves the last one."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    moments = optimizer.state_dict()["state"]
    for number, entries in moments.items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    described = {
        "task": task.name,
        "config": json.dumps(task.config.as_dict()),
        "step": str(state.step),
        "seconds": repr(state.seconds),
    }
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, described))
        partial.replace(path)
    except OSError as error:
        raise Missing(
            f"the checkpoint can't be written: {error.strerror}",
            place=str(path),
            hint="free some space, then run the same command again: it goes on from the last checkpoint",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        task: the name of what was trained.
        config: the network's sizes, as JSON holds them.
        tensors: weights (`network.`), averaged weights (`average.`) and the optimiser's moments (`optimizer.`).
        state: how far the training is.
    """

    task: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    state: Progress


def read_checkpoint(path: Path, task: str = FIRST_TASK) -> Checkpoint:
    """
    Args:
        path: of the file.
        task: what the caller means to find in it.

    Raises:
        DamagedRun: the file is damaged.
        Missing: it is not there.
        BadInput: it is of another task.
    """
    if not path.exists():
        raise Missing("there is no checkpoint", place=str(path), hint=f"train first: kiss3d train {task}")
    try:
        with safe_open(path, framework="pt") as opened:
            described = opened.metadata() or {}
        config = parse_json(described["config"])
        if not isinstance(config, dict):
            raise ValueError("its configuration is no object")
        state = Progress(int(described["step"]), float(described["seconds"]))
        found = Checkpoint(described.get("task", FIRST_TASK), config, load_tensors(path.read_bytes()), state)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedRun(
            f"the checkpoint can't be read: {type(error).__name__}: {error}",
            place=str(path),
            hint="remove it to train from the start",
        ) from error
    if found.task != task:
        raise BadInput(
            f"the checkpoint is of kiss3d train {found.task}, not of kiss3d train {task}",
            place=str(path),
            hint="give another --out",
        )
    return found


def resume(
    path: Path, network: torch.nn.Module, average: dict[str, Tensor], optimizer: Any, task: Task[Any]
) -> Progress:
    found = read_checkpoint(path, task.name)
    wanted = parse_json(json.dumps(task.config.as_dict()))
    if found.config != wanted:
        raise BadInput(
            f"the checkpoint is of another network: {found.config}, not {wanted}",
            place=str(path),
            hint="give the options that it was trained with, or another --out",
        )
    tensors = found.tensors
    try:
        network.load_state_dict(under(tensors, "network."))
        average.update({name: value.to(average[name]) for name, value in under(tensors, "average.").items()})
        groups = optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in under(tensors, "optimizer.").items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = value
        groups["state"] = moments
        optimizer.load_state_dict(groups)
    except (RuntimeError, ValueError, KeyError) as error:
        raise DamagedRun(
            f"the checkpoint lacks tensors: {error}", place=str(path), hint="train from the start"
        ) from error
    return found.state


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
