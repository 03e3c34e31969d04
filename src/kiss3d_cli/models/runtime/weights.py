"""Weights on disk: read by memory map into networks that were built without memory, written tensor by tensor."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kiss3d_cli.core.errors import BadInput, Missing, OutOfMemory
from kiss3d_cli.core.files import create, move
from kiss3d_cli.models.runtime.blocks import deep
from kiss3d_cli.models.runtime.empty import unfilled
from kiss3d_cli.models.runtime.fp8 import FP8, Fp8Linear, Fp8Weight
from kiss3d_cli.models.store.headers import Header
from kiss3d_cli.models.store.headers import Shape as Shape


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a module's tensor is stored.

    Attributes:
        name: the stored tensor.
        start, stop: the rows of it; stop None means all of them.
        halves_swapped: whether the stored tensor's two halves change places.
    """

    name: str
    start: int = 0
    stop: int | None = None
    halves_swapped: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """A file's tensors, as a model's.

    Attributes:
        places: by the name of the module's tensor.
        scales: name of the stored scale, by the name of the stored weight that it belongs to.
    """

    places: Mapping[str, Place]
    scales: Mapping[str, str]

    def shapes(self, stored: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of the module's tensors."""
        return {
            target: stored[place.name] if place.stop is None else (place.stop - place.start, *stored[place.name][1:])
            for target, place in self.places.items()
        }


_NO_ROOM = ("Cannot allocate memory", "os error 1455", "<1455>")
"""1455: Windows sets the whole file aside in the paging file, though it is only read."""


class WeightFile(Header):
    """A safetensors file. Its tensors are views of the mapped file: pages are read when they are used.

    Attributes:
        path: the file.
        shapes: of every tensor, by name.
        dtypes: of every tensor, as safetensors calls them: `F8_E4M3`, `BF16`, `F16`, `F32`...
        metadata: what the writer noted beside the tensors.
    """

    def __init__(self, path: Path) -> None:
        """Raises Missing if the file is not there, damaged or unreadable, OutOfMemory if it can't be mapped."""
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            names = list(self._file.keys())
            slices = {name: self._file.get_slice(name) for name in names}
            self.metadata: dict[str, str] = self._file.metadata() or {}
        except FileNotFoundError:
            raise Missing("there is no such file", place=str(path), hint=f"put {path.name} there") from None
        except SafetensorError as error:
            raise Missing(
                "the weights are damaged or cut short",
                place=str(path),
                hint="delete the file and download it again",
            ) from error
        except (OSError, RuntimeError, MemoryError) as error:  # safetensors and torch each map the file
            if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_ROOM):
                raise OutOfMemory(
                    f"there is no room to map the file of {path.stat().st_size / 1e9:.1f} GB into memory",
                    place=str(path),
                    hint="close other programs; on Windows, let the system manage the size of the paging file",
                ) from error
            raise Missing(
                f"the file can't be read: {error}", place=str(path), hint="check its permissions and its disk"
            ) from error
        super().__init__(
            path,
            {name: tuple(entry.get_shape()) for name, entry in slices.items()},
            {name: entry.get_dtype() for name, entry in slices.items()},
        )

    def tensor(self, name: str) -> Tensor:
        stored: Tensor = self._file.get_tensor(name)
        return stored

    def at(self, place: Place) -> Tensor:
        """The tensor at a place: a view of the file wherever that is possible."""
        stored = self.tensor(place.name)
        if place.stop is not None:
            return stored[place.start : place.stop]
        if place.halves_swapped:
            bytes_ = stored.view(torch.uint8) if stored.dtype == FP8 else stored
            return torch.cat(tuple(reversed(bytes_.chunk(2)))).view(stored.dtype)
        return stored

    def scale(self, layout: Layout, place: Place) -> Tensor | None:
        name = layout.scales.get(place.name)
        return None if name is None else self.tensor(name).float().reshape(())


_WIDE = re.compile(r"relative_attention_bias|norm")
"""Matrices within the blocks that are no part of attention or MLP: embeddings and modulations."""


def check_fp8(file: WeightFile, layout: Layout, what: str, hint: str) -> None:
    """Raises BadInput if the matrices of a model's blocks are not in fp8: nothing falls back to 16 bits silently.

    Each may have one scale; those of rows or of blocks are another format, which is not read here.
    """
    shapes = layout.shapes(file.shapes)
    matrices = {name: place for name, place in layout.places.items() if "block" in name and len(shapes[name]) == 2}
    kinds = {file.dtypes[place.name] for name, place in matrices.items() if not _WIDE.search(name)}
    if kinds != {"F8_E4M3"}:
        words = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F8_E5M2": "fp8 of the kind e5m2"}
        found = ", ".join(sorted(words.get(kind, kind) for kind in kinds - {"F8_E4M3"}))
        raise BadInput(
            f"{what} is stored in {found}; only fp8 (e4m3) checkpoints are accepted", place=str(file.path), hint=hint
        )
    many = next((name for name in layout.scales.values() if file.shapes[name] not in ((), (1,))), None)
    if many is not None:
        cause = f"{what} has a scale for each row or block ({many}); one for each matrix is read here"
        raise BadInput(cause, place=str(file.path), hint=hint)


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose tensors have shapes and no memory."""
    with unfilled():
        model = make()
    return model.eval().requires_grad_(False)


def fill(
    model: nn.Module,
    file: WeightFile,
    layout: Layout,
    dtype: torch.dtype,
    *,
    widen_linears: bool = False,
) -> None:
    """Give a network from `build` its weights, in place.

    Args:
        dtype: of everything that is not in fp8: norms, biases, embeddings, convolutions, and of the activations.
        widen_linears: widen the fp8 matrices too.

    Raises:
        Missing: a tensor of the model that the file does not have, or has in another shape.
    """
    check_fits(model, layout.shapes(file.shapes), str(file.path))
    widened: dict[Place, nn.Parameter] = {}

    def wide(name: str) -> nn.Parameter:
        place = layout.places[name]
        if place not in widened:
            stored, scale = file.at(place), file.scale(layout, place)
            tensor = stored.to(dtype) if scale is None else (stored.float() * scale).to(dtype)
            widened[place] = nn.Parameter(tensor, requires_grad=False)
        return widened[place]

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and not widen_linears:
            place = layout.places[f"{name}.weight"]
            if file.dtypes[place.name] == "F8_E4M3":
                bias = None if module.bias is None else wide(f"{name}.bias").detach()
                weight = Fp8Weight(file.at(place), file.scale(layout, place))
                model.set_submodule(name, Fp8Linear(weight, bias))
                continue
        for key, parameter in module._parameters.items():
            if parameter is not None:
                stored = wide(f"{name}.{key}" if name else key)
                # 1 x 1 convolutions of the original code are linear layers here
                same = stored.shape == parameter.shape
                module._parameters[key] = stored if same else nn.Parameter(stored.view(parameter.shape), False)
        for key, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta and key == "position_ids":
                module._buffers[key] = torch.arange(buffer.shape[-1]).reshape(buffer.shape)


def tensors(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every parameter and buffer below a module, with the module that owns it and its name there."""
    for owner in module.modules():
        for key, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is not None:
                yield owner, key, tensor


def check_fits(
    model: nn.Module, found: Mapping[str, Shape], place: str, stacks: Mapping[str, int] | None = None
) -> dict[str, Shape]:
    """The shapes of a model's tensors. Raises Missing if one is not among those found, or has another shape there.

    Args:
        place: what they were found in.
        stacks: for a model that was made with two blocks a stack, how many there are: see `blocks.deep`.
    """
    wanted = deep({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, stacks or {})
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape and found[name] != (*shape, 1, 1)
    ]
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Missing(
            f"the weights do not fit {type(model).__name__}: {', '.join(faults[:3])}{more}",
            place=place,
            hint="use the published file named by 'kiss3d models list'",
        )
    return wanted


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor of a file that is being written: `make` is called when its turn comes."""

    name: str
    dtype: torch.dtype
    shape: Shape
    make: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * int(torch.Size(self.shape).numel())


_NAMES = {
    FP8: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
}


def file_header(entries: Iterable[Entry]) -> tuple[bytes, int]:
    """How a safetensors file of these tensors begins, in their order, and how many bytes follow."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.bytes],
        }
        end += entry.bytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head, end


def write_weights(target: Path, entries: Iterable[Entry], progress: Callable[[float], None]) -> None:
    """Write a safetensors file one tensor after the other; it appears whole or not at all.

    Raises:
        Missing: no room, or no right to write there.
    """
    entries = list(entries)
    head, end = file_header(entries)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with create(partial) as stream:
            stream.write(head)
            done = 0
            for entry in entries:
                tensor = entry.make().to("cpu", entry.dtype).contiguous()
                assert tuple(tensor.shape) == entry.shape, entry.name
                stream.write(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
                done += entry.bytes
                progress(done / end)
            stream.flush()
            os.fsync(stream.fileno())
        move(partial, target)
    except OSError as error:
        raise Missing(
            f"weights ({end / 1e9:.1f} GB) can't be written: {error.strerror or error}",
            place=str(target),
            hint="make room on that disk and make the folder writable",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
