"""Every way in which a file of weights is found broken on a user's disk."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
ERROR = b'{"error":"Access to model is restricted and you are not in the authorized list."}'
INTEGERS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}

Way = Callable[[Path], None]


def ways(path: Path, other: Path) -> Iterator[tuple[str, Way]]:
    """Each way to break a file, by name; `other` is a file of the same kind that belongs elsewhere."""
    size = path.stat().st_size
    yield "missing", lambda p: p.unlink()
    yield "empty", lambda p: _put(p, b"")
    yield "Git LFS pointer", lambda p: _put(p, LFS)
    yield "HTML page", lambda p: _put(p, PAGE)
    yield "folder", _folder
    yield "link to nowhere", _dangle
    yield "of another model", lambda p: _copy(other, p)
    for length in sorted({7, 20, size // 2, size - 3}):
        if 0 < length < size and path.suffix != ".txt":
            yield f"cut after {length} bytes", lambda p, length=length: _put(p, p.read_bytes()[:length])
    if path.suffix == ".txt":
        yield "cut in the middle", lambda p: _put(p, b"#version: 0.2\na b\nc")
    if path.suffix == ".json":
        yield "an error message", lambda p: _put(p, ERROR)
        yield "a list", lambda p: _put(p, b"[1, 2]")
        yield "no text", lambda p: _put(p, b"\xff\xfe\x00\x01" * 9)
    if path.suffix == ".safetensors":
        yield "header corrupt", lambda p: _put(p, p.read_bytes()[:40] + b"\x00?{]" + p.read_bytes()[44:])
        yield "bytes after its end", lambda p: _put(p, p.read_bytes() + b"\0" * 8)
        yield "of another dtype", lambda p: _retyped(p)
    if path.suffix in (".safetensors", ".ckpt"):
        yield "a wrong shape", lambda p: _change(p, _misshape)
        yield "a tensor missing", lambda p: _change(p, _lose)
        if not path.name.startswith("rgb_normal"):  # a LoRA need not change every layer
            yield "half of its tensors", lambda p: _change(p, _halve)
    if path.suffix == ".ckpt":
        yield "of another dtype", lambda p: _change(p, _to_integers)
        yield "code", lambda p: _put(p, pickle.dumps(print))


def takes_no_extra(path: Path) -> bool:
    """Whether the loader of a file refuses a tensor that it does not know."""
    return path.suffix == ".ckpt" or path.name.startswith(("rgb_normal", "flux1-dev", "FLUX.1-schnell"))


def add_tensor(path: Path) -> None:
    def more(state: dict[str, Any]) -> dict[str, Any]:
        first = next((name for name in state if "diffusion_model" in name), next(iter(state)))
        return {**state, f"{first.rpartition('.')[0]}.unheard_of.weight": torch.zeros(2, 2)}

    _change(path, more)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _copy(source: Path, path: Path) -> None:
    path.unlink()
    shutil.copyfile(source, path)


def _folder(path: Path) -> None:
    path.rename(path.with_name("kept"))
    path.mkdir()
    (path / "kept").write_bytes(b"of the user's")
    path.with_name("kept").unlink()


def _dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _change(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.suffix == ".safetensors":
        save_file(change(load_file(path)), path, metadata={"format": "pt"})
        return
    content = torch.load(path, weights_only=True)
    nested = "state_dict" in content
    changed = change(dict(content["state_dict"] if nested else content))
    torch.save({"state_dict": changed} if nested else changed, path)


def _matrix(state: dict[str, Any]) -> str:
    """The last matrix that is not square: the last, as the first ones tell the sizes of the whole."""
    return [n for n, t in state.items() if t.ndim >= 2 and t.shape[0] != t.shape[1] and "position_ids" not in n][-1]


def _misshape(state: dict[str, Any]) -> dict[str, Any]:
    name = _matrix(state)
    return {**state, name: state[name].transpose(0, 1).contiguous()}


def _lose(state: dict[str, Any]) -> dict[str, Any]:
    lost = _matrix(state)
    return {name: tensor for name, tensor in state.items() if name != lost}


def _halve(state: dict[str, Any]) -> dict[str, Any]:
    return dict(list(state.items())[: len(state) // 2])


def _to_integers(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.to(torch.int32) for name, tensor in state.items()}


def _retyped(path: Path) -> None:
    """The same bytes under the name of a type of integers."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "I32", "F16": "I16", "BF16": "U16", "F8_E4M3": "U8"}
    for name, entry in header.items():
        if name != "__metadata__":
            entry["dtype"] = kinds.get(entry["dtype"], entry["dtype"])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
