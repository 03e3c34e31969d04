"""Weights prepared once and kept beside the published ones, so that a run only maps a file: the transformer with its
LoRA folded in, the ControlNet in fp8.

A prepared file is a safetensors file with the names of diffusers' classes; it is written tensor by tensor.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor

from kiss3d_cli.core.hashing import json_sha256
from kiss3d_cli.models.flux.lora import LowRank, fold
from kiss3d_cli.models.runtime.fp8 import FP8, Fp8Weight, quantize
from kiss3d_cli.models.runtime.weights import Entry, Layout, Place, Shape, WeightFile, write_weights

VERSION = 2
"""Of the preparation: raised when the same files give other weights."""
SUFFIX = ".prepared"
BLOCK_LAYERS = r"(single_)?transformer_blocks\.|controlnet_(single_)?blocks\."
"""Layers that hold nearly all weights; the few outside the blocks stay wide."""

Progress = Callable[[float], None]


def prepared_path(source: Path, facts: Mapping[str, object]) -> Path:
    """Where the weights prepared from `source` lie; `facts` are all that they depend on."""
    key = json_sha256({"version": VERSION, **facts})
    return source.with_name(f"{source.stem}.{key[:16]}{SUFFIX}")


def fold_transformer(
    file: WeightFile,
    layout: Layout,
    changes: Mapping[str, list[LowRank]],
    scale: float,
    target: Path,
    device: torch.device,
    progress: Progress,
) -> None:
    """Write the transformer with a LoRA folded in.

    Args:
        changes: of `read_lora`.
        scale: of the LoRA.
        device: where to do the arithmetic.
    """
    entries = []
    shapes = layout.shapes(file.shapes)
    for name, place in layout.places.items():
        layer = name.removesuffix(".weight")
        mine = [change.times(scale) for change in changes[layer]] if name != layer and layer in changes else []
        if file.dtypes[place.name] != "F8_E4M3" or len(shapes[name]) != 2:
            entries.append(_wide(file, layout, name, place, shapes[name], mine))
        elif mine:
            entries += _narrow(name, shapes[name], _folded(file, layout, place, mine, device))
        else:
            entries += _narrow(name, shapes[name], _kept(file, layout, place))
    _write(target, entries, progress)


def narrow_controlnet(file: WeightFile, layout: Layout, target: Path, progress: Progress) -> None:
    """Write a ControlNet with the matrices of its blocks in fp8, rounded to the nearest."""
    entries = []
    shapes = layout.shapes(file.shapes)
    for name, place in layout.places.items():
        if len(shapes[name]) == 2 and re.match(BLOCK_LAYERS, name):
            entries += _narrow(name, shapes[name], _kept(file, layout, place))
        else:
            entries.append(_wide(file, layout, name, place, shapes[name]))
    _write(target, entries, progress)


def _wide(
    file: WeightFile, layout: Layout, name: str, place: Place, shape: Shape, changes: Sequence[LowRank] = ()
) -> Entry:
    def make() -> Tensor:
        values = Fp8Weight(file.at(place).float(), file.scale(layout, place)).widen(torch.float32)
        return sum((change.change(values.device) for change in changes), start=values).bfloat16()

    return Entry(name, torch.bfloat16, shape, make)


def _kept(file: WeightFile, layout: Layout, place: Place) -> Callable[[], Fp8Weight]:
    def make() -> Fp8Weight:
        stored = file.at(place)
        return Fp8Weight(stored, file.scale(layout, place)) if stored.dtype == FP8 else quantize(stored.float())

    return make


def _folded(
    file: WeightFile, layout: Layout, place: Place, changes: list[LowRank], device: torch.device
) -> Callable[[], Fp8Weight]:
    return lambda: fold(Fp8Weight(file.at(place), file.scale(layout, place)), changes, device)


def _narrow(name: str, shape: Shape, make: Callable[[], Fp8Weight]) -> list[Entry]:
    """Codes, then the scale: made together, written one after the other."""
    made: list[Fp8Weight] = []

    def codes() -> Tensor:
        made.append(make())
        return made[0].codes

    def scale() -> Tensor:
        weight = made.pop()
        return torch.ones(()) if weight.scale is None else weight.scale

    return [
        Entry(name, FP8, shape, codes),
        Entry(f"{name.removesuffix('.weight')}.scale_weight", torch.float32, (), scale),
    ]


def _write(target: Path, entries: Iterable[Entry], progress: Progress) -> None:
    """Write a prepared file and remove older ones of the same source: a disk holds one for each."""
    source = target.name.removesuffix(SUFFIX).rpartition(".")[0]
    for left in target.parent.glob(f".{source}.*{SUFFIX}.*.partial"):
        if not psutil.pid_exists(int(left.name.split(".")[-2])):
            left.unlink(missing_ok=True)  # gigabytes, by a run that was killed
    write_weights(target, entries, progress)
    for other in target.parent.glob(f"{source}.*{SUFFIX}"):
        if other != target:
            with contextlib.suppress(OSError):  # in use by another run on Windows: it stays until the next time
                other.unlink()
