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
from kiss3d_cli.models.prior.network import PriorConfig

CHECKPOINT = "checkpoint.safetensors"


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
    config: PriorConfig,
    state: Progress,
) -> None:
    """Beside the last one first, then in its place: a kill or a full disk leaves the last one."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    moments = optimizer.state_dict()["state"]
    for number, entries in moments.items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    described = {
        "config": json.dumps(config.as_dict()),
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


def read_checkpoint(path: Path) -> tuple[PriorConfig, dict[str, Tensor], int, float]:
    """Its configuration, tensors, step and the seconds spent.

    Raises:
        DamagedRun: the file is damaged.
        Missing: it is not there.
    """
    if not path.exists():
        raise Missing("there is no checkpoint", place=str(path), hint="train first: kiss3d train prior")
    try:
        with safe_open(path, framework="pt") as opened:
            described = opened.metadata() or {}
        config = PriorConfig.of(parse_json(described["config"]))
        return config, load_tensors(path.read_bytes()), int(described["step"]), float(described["seconds"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedRun(
            f"the checkpoint can't be read: {type(error).__name__}: {error}",
            place=str(path),
            hint="remove it to train from the start",
        ) from error


def resume(
    path: Path, network: torch.nn.Module, average: dict[str, Tensor], optimizer: Any, config: PriorConfig
) -> Progress:
    found, tensors, step, seconds = read_checkpoint(path)
    if found != config:
        raise BadInput(
            f"the checkpoint is of another network: {found.as_dict()}, not {config.as_dict()}",
            place=str(path),
            hint="give the options that it was trained with, or another --out",
        )
    try:
        network.load_state_dict(under(tensors, "network."))
        average.update(under(tensors, "average."))
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
    return Progress(step, seconds)


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
