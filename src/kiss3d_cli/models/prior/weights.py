"""The prior's weights: part of the package, or a file of one's own training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from kiss3d_cli.core.errors import DamagedRun, Missing
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.records import parse_json
from kiss3d_cli.models.prior.network import Prior, PriorConfig
from kiss3d_cli.models.runtime.own_weights import fill, write_weights

FORMAT = "kiss3d-prior-1"
PACKAGED = Path(__file__).parent / "prior.safetensors"
CARD = Path(__file__).parent / "MODEL_CARD.md"
SHA256 = Path(__file__).parent / "prior.sha256"
"""Of the packaged weights: what was measured is what is run."""


@dataclass(frozen=True)
class LoadedPrior:
    """A network ready to run on the CPU, and its weights' hash."""

    network: Prior
    sha256: str


def export(path: Path, config: PriorConfig, tensors: dict[str, Tensor]) -> str:
    """Writes weights in float16 with their configuration, whole or not at all; returns their sha256.

    Args:
        tensors: a `Prior`'s state dict.
    """
    return write_weights(path, FORMAT, config.as_dict(), tensors)


def load(path: Path | None = None) -> LoadedPrior:
    """The packaged weights, or those of a file.

    Raises:
        Missing: the file is not there.
        DamagedRun: it is damaged, of another format, or not what the package was released with.
    """
    own = path is None
    path = PACKAGED if path is None else path
    hint = "reinstall kiss3d" if own else "export them again: kiss3d train prior"
    if not path.is_file():
        raise Missing("the prior's weights are not there", place=str(path), hint=hint)
    sha256 = file_sha256(path)
    if own and sha256 != SHA256.read_text(encoding="ascii").split()[0]:
        raise DamagedRun("the prior's weights are not those of this release", place=str(path), hint=hint)
    try:
        with safe_open(path, framework="pt") as opened:
            described = opened.metadata() or {}
            if described.get("format") != FORMAT:
                raise ValueError(f"its format is {described.get('format')}, not {FORMAT}")
            network = Prior(PriorConfig.of(parse_json(described["config"])))
        fill(network, path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedRun(
            f"the prior's weights can't be read: {type(error).__name__}: {error}", place=str(path), hint=hint
        ) from error
    return LoadedPrior(network.eval(), sha256)
