"""Weights of networks of our own: one safetensors file, with its format and what the network is built from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kiss3d_cli.core.hashing import file_sha256


def write_weights(path: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Writes weights in float16, whole or not at all; returns their sha256.

    Args:
        kind: the format's name, kept as `format`.
        config: of the network, kept as JSON.
        tensors: the network's state dict.
    """
    halves = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(save(halves, {"format": kind, "config": json.dumps(config)}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return file_sha256(path)


def fill(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a file, in float32.

    Raises:
        SafetensorError, OSError: the file can't be read.
        RuntimeError, ValueError: it is of another network, or holds numbers that are not finite.
    """
    with safe_open(path, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    network.load_state_dict(tensors)
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("some weights are not finite numbers")
