"""Weights of the wavelet diffusion model: a file of one's own training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kiss3d_cli.core.errors import BadInput, DamagedRun, Missing
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.records import parse_json
from kiss3d_cli.models.runtime.own_weights import fill, write_weights
from kiss3d_cli.models.wavemesh.config import WaveMeshConfig
from kiss3d_cli.models.wavemesh.network import WaveMesh

FORMAT = "kiss3d-wavemesh-1"
HINT = (
    "train some: kiss3d train data --fields 32 --objects FOLDER, then kiss3d train wavemesh, then "
    "--set reconstruct.weights=outputs/wavemesh/run/wavemesh.safetensors"
)


@dataclass(frozen=True)
class LoadedWaveMesh:
    """A network ready to run on the CPU, and its weights' hash."""

    network: WaveMesh
    sha256: str


def export(path: Path, config: WaveMeshConfig, tensors: dict[str, Tensor]) -> str:
    """Writes weights in float16 with their configuration, whole or not at all; returns their sha256.

    Args:
        tensors: a `WaveMesh`'s state dict.
    """
    return write_weights(path, FORMAT, config.as_dict(), tensors)


def read_config(path: Path) -> WaveMeshConfig:
    """What a file of weights fits, from its header alone.

    Raises:
        Missing: the file is not there. DamagedRun: it is damaged, or no such weights.
    """
    if not path.is_file():
        raise Missing("there are no weights of the wavelet diffusion model", place=str(path), hint=HINT)
    try:
        with safe_open(path, framework="pt") as opened:
            described = opened.metadata() or {}
        if described.get("format") != FORMAT:
            raise ValueError(f"its format is {described.get('format')}, not {FORMAT}")
        config = parse_json(described["config"])
        if not isinstance(config, dict):
            raise ValueError("its configuration is no object")
        return WaveMeshConfig.of(config)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, BadInput) as error:
        raise _damaged(path, error) from error


def load(path: Path) -> LoadedWaveMesh:
    """
    Raises:
        Missing: the file is not there. DamagedRun: it is damaged, of another format, or does not fit its own sizes.
    """
    config = read_config(path)
    with torch.random.fork_rng(devices=[]):
        network = WaveMesh(config)
    try:
        fill(network, path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error
    return LoadedWaveMesh(network.eval(), file_sha256(path))


def _damaged(path: Path, error: Exception) -> DamagedRun:
    return DamagedRun(
        f"the weights of the wavelet diffusion model can't be read: {type(error).__name__}: {error}",
        place=str(path),
        hint="export them again: kiss3d train wavemesh",
    )
