"""Weights of the view synthesis model: a file of one's own training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.models.lvsm.config import FORMAT, LvsmConfig, damaged, look
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.runtime.own_weights import fill, write_weights


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
    return write_weights(path, FORMAT, config.as_dict(), tensors)


def load(path: Path) -> LoadedLvsm:
    """
    Raises:
        Missing: the file is not there. DamagedRun: it is damaged or of another format.
    """
    config = look(path)
    try:
        network = Lvsm(config)
        fill(network, path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error
    return LoadedLvsm(network.eval(), file_sha256(path))
