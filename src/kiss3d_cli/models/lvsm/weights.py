"""Weights of the view synthesis model: a file of one's own training."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.models.lvsm.config import FORMAT, LvsmConfig, damaged, look
from kiss3d_cli.models.lvsm.network import Lvsm


@dataclass(frozen=True)
class LoadedLvsm:
    """A network ready to run on the CPU, and its weights' hash."""

    network: Lvsm
    sha256: str


def export(path: Path, config: LvsmConfig, tensors: dict[str, Tensor]) -> str:
    """Writes weights in float16 with their configuration, whole or not at all; returns their sha256.

    Args:
        tensors: an `Lvsm`'s state dict.
    """
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(save(halves, {"format": FORMAT, "config": json.dumps(config.as_dict())}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return file_sha256(path)


def load(path: Path) -> LoadedLvsm:
    """
    Raises:
        Missing: the file is not there. DamagedRun: it is damaged or of another format.
    """
    config = look(path)
    try:
        network = Lvsm(config)
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        network.load_state_dict(tensors)
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise ValueError("some weights are not finite numbers")
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error
    return LoadedLvsm(network.eval(), file_sha256(path))
