"""Sizes of the view synthesis model, and what a file of its weights says of itself; needs no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from kiss3d_cli.core.errors import DamagedRun, Missing
from kiss3d_cli.core.records import parse_json

FORMAT = "kiss3d-lvsm-1"
TRAIN = "kiss3d train data --views 12, then: kiss3d train lvsm"
KINDS = ("encoder-decoder", "decoder-only")
LARGEST = {"size": 1024, "patch": 64, "width": 4096, "heads": 256, "encoder": 96, "decoder": 96, "latents": 65536}


@dataclass(frozen=True)
class LvsmConfig:
    """What the weights fit.

    Attributes:
        kind: one of KINDS.
        size: pixels a side of every picture.
        patch: pixels a side of a token.
        width: channels of a token, a multiple of `heads`.
        heads: of attention.
        encoder, decoder: layers; no encoder in a decoder-only network.
        latents: tokens of a scene; 0 in a decoder-only network, whose scenes have a token for every patch.
        carved: from two views on, the network corrects their coloured visual hull (`hull.hull_views`).
    """

    kind: str = "encoder-decoder"
    size: int = 64
    patch: int = 8
    width: int = 192
    heads: int = 6
    encoder: int = 5
    decoder: int = 5
    latents: int = 96
    carved: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError: sizes that do not fit together."""
        for name, most in LARGEST.items():
            value = getattr(self, name)
            least = 0 if name in ("encoder", "latents") else 1
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"{name} is {value}, not a whole number from {least} to {most}")
        if not isinstance(self.carved, bool):
            raise ValueError(f"carved is {self.carved}, not true or false")
        if self.kind not in KINDS:
            raise ValueError(f"there is no kind {self.kind}, only {' and '.join(KINDS)}")
        if self.size % self.patch:
            raise ValueError(f"pictures of {self.size} pixels can't be cut into patches of {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads can't share {self.width} channels")
        both = self.encoder > 0 and self.latents > 0
        if both != (self.kind == KINDS[0]) or (not both and (self.encoder or self.latents)):
            raise ValueError(f"{self.encoder} encoder layers and {self.latents} latents do not make it {self.kind}")

    def as_dict(self) -> dict[str, str | int]:
        return dataclasses.asdict(self)

    @staticmethod
    def of(values: dict[str, object]) -> LvsmConfig:
        """From `as_dict` or JSON.

        Raises:
            ValueError: keys that are unknown or missing, or values that do not fit together.
        """
        names = {entry.name for entry in dataclasses.fields(LvsmConfig)}
        values = {"carved": False, **values}  # weights from before there was a choice
        if set(values) != names:
            raise ValueError(f"a configuration of {sorted(values)}, not of {sorted(names)}")
        return LvsmConfig(**values)  # type: ignore[arg-type]


def look(path: Path) -> LvsmConfig:
    """The configuration of a file of weights, without its tensors.

    Raises:
        Missing: the file is not there. DamagedRun: it is damaged or of another format.
    """
    if not path.is_file():
        raise Missing("the weights of the view synthesis model are not there", place=str(path), hint=TRAIN)
    try:
        with safe_open(path, framework="np") as opened:
            described = opened.metadata() or {}
        if described.get("format") != FORMAT:
            raise ValueError(f"its format is {described.get('format')}, not {FORMAT}")
        return LvsmConfig.of(parse_json(described["config"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DamagedRun:
    return DamagedRun(
        f"the weights of the view synthesis model can't be read: {type(error).__name__}: {error}",
        place=str(path),
        hint=f"export them again: {TRAIN}",
    )
