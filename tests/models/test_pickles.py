"""Checkpoints of torch read as data: against torch itself, and programs that would harm whoever runs them."""

# ruff: noqa: E501 - programs, one a line

from __future__ import annotations

import collections
import datetime
import functools
import io
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.models.runtime import pickles
from kiss3d_cli.models.runtime.convert import convert_pickle, pickled_shapes
from kiss3d_cli.models.runtime.pickles import Damaged, StoredTensor
from kiss3d_cli.models.runtime.torch_files import Checkpoint

MAGIC = 0x1950A86A20F9469CFC6C


class Callback:
    """Something of a trainer's."""

    def __init__(self) -> None:
        self.monitor, self.best = "val/loss", np.float32(0.25)


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = {1, 2}


class Settings(dict):
    """A dictionary with a class of its own."""


def tensors() -> dict[str, torch.Tensor]:
    random_ = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=random_)
    return {
        "whole": base,
        "shared": base,
        "rows": base[2:4],
        "turned": base.T,
        "columns": base[:, ::3],
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "none": torch.zeros(0, 4),
        "half": torch.randn(5, generator=random_).half(),
        "bf16": torch.randn(5, generator=random_).bfloat16(),
        "fp8": torch.randn(5, generator=random_).to(torch.float8_e4m3fn),
        "count": torch.arange(7),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(9, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=random_)),
    }


def lightning(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint as PyTorch Lightning leaves one, with everything that may lie in it."""
    ordered = collections.OrderedDict(state)
    ordered._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    layer = torch.nn.Linear(2, 2)
    return {
        "epoch": 3,
        "global_step": np.int64(1200),
        "state_dict": ordered,
        "loss": np.float64(0.5),
        "history": np.arange(4.0),
        "hyper_parameters": OmegaConf.create({"lr": 1e-4, "model": {"name": "lrm", "sizes": [1, 2]}}),
        "callbacks": {"ModelCheckpoint": Callback(), "other": Slotted(), "dict": Settings(a=1)},
        "optimizer_states": [torch.optim.Adam(layer.parameters()).state_dict()],
        "paths": (Path("a") / "b", datetime.datetime(2025, 1, 2), functools.partial(print, "x"), complex(1, 2)),
        "sets": {frozenset({1}), (1, (2, 3))},
        "module": layer,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "counts": collections.defaultdict(int, a=1),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_are_those_that_torch_reads(legacy: bool, protocol: int, tmp_path: Path) -> None:
    state = tensors()
    if legacy:
        del state["fp8"]  # newer than the format
    path = tmp_path / "a.ckpt"
    whole = lightning(state)
    torch.save(whole, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the protocol
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)
    checkpoint = Checkpoint(path)
    assert checkpoint.root["epoch"] == 3
    found = checkpoint.root["state_dict"]
    assert list(found) == list(state)
    for name, expected in state.items():
        value = checkpoint.tensor(found[name])
        assert value.dtype == expected.dtype, name
        assert value.is_contiguous(), name
        assert torch.equal(
            value.view(torch.uint8) if name == "fp8" else value,
            expected.view(torch.uint8) if name == "fp8" else expected.detach(),
        ), name


def test_tensors_that_share_their_numbers_are_written_once_each(tmp_path: Path) -> None:
    state, source, target = tensors(), tmp_path / "a.ckpt", tmp_path / "a.safetensors"
    torch.save(lightning({f"model.{name}": value for name, value in state.items()}), source)
    seen = {}
    convert_pickle(source, target, entry="state_dict", prefix="model.", check=seen.update, hint="")
    assert seen == pickled_shapes(source, entry="state_dict", prefix="model.", hint="")
    assert seen == {name: tuple(value.shape) for name, value in state.items()}
    written = load_file(target)
    assert written.keys() == state.keys()
    for name, value in written.items():
        assert torch.equal(value.float(), state[name].float()), name
    assert target.stat().st_size < sum(value.nbytes for value in state.values()) + 3000


class Program:
    """A pickle, written by hand; calls that would leave a file behind if anyone made them."""

    def __init__(self, folder: Path) -> None:
        self.sign = folder / "harm"

    def touch(self) -> bytes:
        """The arguments of a call: a tuple of one path."""
        return pickle.dumps((str(self.sign),), 2)[2:-1]

    @staticmethod
    def named(module: str, name: str) -> bytes:
        return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


MKDIR = Program.named("os", "mkdir")
ATTACKS: dict[str, Callable[[Program], bytes]] = {
    "REDUCE": lambda p: MKDIR + p.touch() + b"R.",
    "STACK_GLOBAL": lambda p: text("os") + text("mkdir") + b"\x93" + p.touch() + b"R.",
    "INST": lambda p: b"(" + text(str(p.sign)) + b"ios\nmkdir\n.",
    "OBJ": lambda p: b"(" + MKDIR + text(str(p.sign)) + b"o.",
    "NEWOBJ": lambda p: Program.named("pathlib", "Path") + p.touch() + b"\x81.",
    "NEWOBJ_EX": lambda p: Program.named("os", "mkdir") + p.touch() + b"}\x92.",
    "BUILD": lambda p: Program.named("builtins", "object") + b")\x81}" + text("__setstate__") + MKDIR + b"sb" + text(str(p.sign)) + b"b.",
    "a class changed": lambda p: Program.named("collections", "OrderedDict") + b"}" + text("__reduce__") + MKDIR + b"sb.",
    "EXT": lambda p: b"\x82\x01" + p.touch() + b"R.",
    "a persistent id that is text": lambda p: b"Pos.mkdir\n.",
    "a persistent id that is a call": lambda p: MKDIR + p.touch() + b"RQ.",
    "a storage of another class": lambda p: b"(" + text("storage") + MKDIR + text("0") + text("cpu") + b"K\x01tQ.",
    "a tensor made by another function": lambda p: Program.named("torch._tensor", "_rebuild_from_type_v2") + b"(" + MKDIR + Program.named("builtins", "str") + p.touch() + b"}tR.",
    "a parameter of a call": lambda p: Program.named("torch._utils", "_rebuild_parameter") + MKDIR + p.touch() + b"R\x88}\x87R.",
    "a tensor of what is no storage": lambda p: Program.named("torch._utils", "_rebuild_tensor_v2") + b"(" + MKDIR + b"K\x00))\x89}tR.",
    "eval": lambda p: Program.named("builtins", "eval") + pickle.dumps((f"__import__('os').mkdir({str(p.sign)!r})",), 2)[2:-1] + b"R.",
    "getattr": lambda p: Program.named("builtins", "getattr") + Program.named("os", "path") + text("join") + b"\x86R.",
    "a module's attribute": lambda p: Program.named("os.path", "os.mkdir") + p.touch() + b"R.",
    "a call of a call": lambda p: Program.named("functools", "partial") + MKDIR + b"\x85R" + p.touch() + b"R.",
}  # fmt: skip


def write(path: Path, program: bytes, legacy: bool) -> Path:
    """A checkpoint of torch with this pickle; the number of storages is none."""
    if legacy:
        heads = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True}))
        path.write_bytes(heads + program + pickle.dumps([], 2))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/data/0", b"\0" * 64)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ATTACKS)
def test_nothing_in_a_pickle_is_ever_called(kind: str, legacy: bool, tmp_path: Path) -> None:
    program = Program(tmp_path)
    body = ATTACKS[kind](program)
    path = write(tmp_path / "a.ckpt", body, legacy)
    found = Checkpoint(path).root
    assert not program.sign.exists()
    assert not isinstance(found, StoredTensor)
    wrapped = b"}(" + text("state_dict") + b"}(" + text("x") + body[:-1] + b"u" + text("epoch") + b"K\x03u."
    path = write(tmp_path / "b.ckpt", wrapped, legacy)
    assert Checkpoint(path).root["epoch"] == 3, "what comes after it is read"
    with pytest.raises(Missing, match="not those"):
        convert_pickle(path, tmp_path / "b.safetensors", entry="state_dict", prefix="", check=refuse, hint="")
    assert not program.sign.exists()


def refuse(found: Any) -> None:
    if not found:
        raise Missing("not those")


def test_the_attacks_are_attacks(tmp_path: Path) -> None:
    """Python's own reader makes the folder: or the tests above would prove nothing."""
    made = 0
    for kind in ("REDUCE", "STACK_GLOBAL", "INST", "eval", "a module's attribute", "a call of a call"):
        program = Program(tmp_path / kind.replace(" ", ""))
        program.sign.parent.mkdir()
        try:
            pickle.loads(ATTACKS[kind](program))
        except Exception:  # after the harm is done
            print(kind)
        made += program.sign.exists()
    assert made >= 5


def doubled(times: int) -> bytes:
    """A tuple of two tuples of two tuples...: a few bytes, of which text or hash take 2^times steps."""
    return b")" + b"q\x00h\x00\x86" * times


def deep(times: int) -> bytes:
    return b")" + b"\x85" * times


COPIES = (
    b"ccollections\nOrderedDict\nq\x01]("
    + b"".join(b"(K\x01" + struct.pack("<BI", 0x4A, n) + b"t" for n in range(2000))
    + b"e\x85q\x02"
)
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")


def tensor(count: bytes, shape: bytes, stride: bytes) -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + count + b"tQK\x00" + shape + stride + b"\x89}tR."


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


BOMBS: dict[str, bytes] = {
    "a memo of billions": b"Nr\xff\xff\xff\xff.",
    "bytes of a terabyte": b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a bytearray of a terabyte": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "text of a terabyte": b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "text of an exabyte": b"\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "a frame of a terabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "a number of two gigabytes": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a number in many digits": b"L" + b"9" * 10_000 + b"L\n.",
    "a negative length": b"\x8b" + struct.pack("<i", -5) + b"x.",
    "tuples without end as a storage's key": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + doubled(60) + text("cpu") + b"K\x01tQ.",
    "tuples without end as a class": doubled(60) + text("x") + b"\x93.",
    "tuples without end as a key": b"}" + doubled(60) + b"Ns.",
    "a deep tuple as a key": b"}" + deep(9_000) + b"Ns.",
    "a deep list": b"]" * 9_000 + b"a" * 8_999 + b".",
    "a dictionary copied again and again": b"(" + COPIES + b"h\x01h\x02R" * 3_000 + b"t.",
    "instructions without end": b"N0" * 20_000 + b"N.",
    "a tensor of one number": tensor(b"K\x01", number(2**40) + b"\x85", b"K\x00\x85"),
    "a storage that is not there": tensor(number(2**50), number(2**50) + b"\x85", b"K\x01\x85"),
    "a tensor of a thousand dimensions": tensor(b"K\x01", b"(" + b"K\x01" * 1000 + b"t", b"(" + b"K\x01" * 1000 + b"t"),
    "a negative shape": tensor(b"K\x04", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
    "a negative step": tensor(b"K\x04", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
    "a shape of huge numbers": tensor(b"K\x04", number(2**200) + number(2**200) + b"\x86", b"K\x00K\x00\x86"),
    "an empty stack": b"0.",
    "a mark that is not there": b"Nt.",
    "a memo that is not there": b"h\x07.",
    "no end": b"N",
    "nothing": b"",
    "another instruction": b"\xf0.",
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", BOMBS)
def test_no_pickle_takes_much_memory_or_time(
    kind: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "MOST", 2**15)  # as the file is smaller than a hostile one may be
    path = write(
        tmp_path / "a.ckpt", b"}" + text("x") + BOMBS[kind][:-1] + b"s." if kind == "?" else BOMBS[kind], legacy
    )
    tracemalloc.start()
    try:
        root = Checkpoint(path).root
        if isinstance(root, StoredTensor):
            Checkpoint(path).tensor(root)
            pytest.fail("the tensor is not there")
    except Damaged:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30e6


def test_an_archive_with_compressed_or_lying_entries_is_damaged(tmp_path: Path) -> None:
    body = tensor(b"K\x10", b"K\x10\x85", b"K\x01\x85")
    compressed = tmp_path / "compressed.ckpt"
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", body)
        archive.writestr("a/data/0", b"\0" * 64)
    with pytest.raises(Damaged, match="compressed"):
        Checkpoint(compressed)
    swapped = tmp_path / "big.ckpt"
    with zipfile.ZipFile(swapped, "w") as archive:
        archive.writestr("a/data.pkl", body)
        archive.writestr("a/byteorder", b"big")
    with pytest.raises(Damaged, match="big-endian"):
        Checkpoint(swapped)
    without = tmp_path / "without.ckpt"
    with zipfile.ZipFile(without, "w") as archive:
        archive.writestr("a/data.pkl", body)
        archive.writestr("a/data/0", b"\0" * 60)
    checkpoint = Checkpoint(without)
    with pytest.raises(Damaged, match="not all there"):
        checkpoint.require(checkpoint.root)
    with pytest.raises(Damaged, match="not all there"):
        checkpoint.tensor(checkpoint.root)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_any_byte_changed_is_read_or_called_damaged(legacy: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(
        lightning({"a": torch.ones(4), "b": torch.ones(2, 3)}), buffer, _use_new_zipfile_serialization=not legacy
    )
    whole, dice, path = buffer.getvalue(), random.Random(0), tmp_path / "a.ckpt"
    refused = 0
    for _ in range(120):
        changed = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        path.write_bytes(changed if dice.random() < 0.8 else changed[: dice.randrange(len(changed))])
        try:
            checkpoint = Checkpoint(path)
            state = (
                checkpoint.root["state_dict"]
                if isinstance(checkpoint.root, dict) and "state_dict" in checkpoint.root
                else {}
            )
            for value in state.values() if isinstance(state, dict) else ():
                if isinstance(value, StoredTensor):
                    checkpoint.tensor(value)
        except Damaged:
            refused += 1
    assert 10 < refused < 120
