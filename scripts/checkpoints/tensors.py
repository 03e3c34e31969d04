"""Files of random tensors, written one after the other: a full-size model needs the memory of its largest tensor."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


class Spec(NamedTuple):
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


Specs = Mapping[str, Spec]


def specs_of(module: torch.nn.Module, dtype: torch.dtype = torch.float32, prefix: str = "") -> dict[str, Spec]:
    """What a file of this network holds; the network may be on the meta device. Tied tensors are there once."""
    tied = getattr(module, "all_tied_weights_keys", None) or {}
    return {
        prefix + name: Spec(tuple(value.shape), dtype if value.is_floating_point() else value.dtype)
        for name, value in module.state_dict().items()
        if name not in tied
    }


DRAWN = 1_048_573
"""Random numbers that a larger tensor repeats: to draw billions takes a minute. A prime, so that no rows are alike."""


def random_tensor(name: str, spec: Spec, seed: int) -> Tensor:
    """Values of the size that lets a signal pass through a network; they depend on the name and the seed alone."""
    if not spec.dtype.is_floating_point:
        return torch.arange(math.prod(spec.shape), dtype=spec.dtype).reshape(spec.shape)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    count = math.prod(spec.shape)
    values = torch.randn(spec.shape if count <= DRAWN else (DRAWN,), generator=generator)
    if len(spec.shape) < 2:
        values = values * 0.02 + (1.0 if name.endswith("weight") else 0.0)
    else:
        values = values / math.sqrt(math.prod(spec.shape[1:]))
    values = values.to(spec.dtype)
    return values if count <= DRAWN else values.repeat(-(-count // DRAWN))[:count].reshape(spec.shape)


HOLLOW = False
"""Whether files have zeros that take no room on the disk in the place of tensors: for what reads headers alone."""


def write_safetensors(path: Path, specs: Specs, seed: int, given: Mapping[str, Tensor] | None = None) -> None:
    """A file of random tensors, but for those that are given."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        start, end = end, end + math.prod(spec.shape) * spec.dtype.itemsize
        header[name] = {"dtype": NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if HOLLOW:
            file.truncate(8 + len(text) + end)
            return
        for name, spec in specs.items():
            tensor = (given or {}).get(name)
            flat = (random_tensor(name, spec, seed) if tensor is None else tensor.to(spec.dtype)).reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def write_pickle(
    path: Path,
    specs: Specs,
    seed: int,
    wrap: Callable[[dict[str, Tensor]], Any] = lambda state: state,
    given: Mapping[str, Tensor] | None = None,
) -> None:
    """What `torch.save` writes, of random tensors but for those that are given.

    The tensors come out of a file mapped into memory, not out of memory of their own.
    """
    if HOLLOW:
        with torch.serialization.skip_data():
            torch.save(wrap({name: torch.empty(spec.shape, dtype=spec.dtype) for name, spec in specs.items()}), path)
        return
    mapped = path.with_suffix(".safetensors.partial")
    write_safetensors(mapped, specs, seed, given)
    try:
        with safe_open(mapped, framework="pt") as file:
            torch.save(wrap({name: file.get_tensor(name) for name in specs}), path)
    finally:
        mapped.unlink()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
