"""Pickles read as data: the opcodes are followed here, and no class or function that they name is ever imported, let
alone called.

A pickle is a program for a small stack machine. Of its instructions those that make plain values are carried out;
whatever would call something yields an inert `Unknown` instead, but for the handful of calls by which torch writes
tensors, which are read as descriptions. So a checkpoint may hold anything beside its tensors: numpy scalars, callbacks,
the settings of a trainer.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch

LONGEST = 2**26
MOST = 2**22
"""Bytes and instructions of a pickle; the published ones have less than 2^20 and 2^16, as the numbers lie outside. What
memory and time a hostile one can take hangs on these two."""


class Damaged(ValueError):
    """It is no pickle, or no checkpoint, or is cut short."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function by its name; nothing is imported."""

    module: str
    name: str


class Unknown:
    """An object of which nothing is known but that it was there."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """A row of numbers in the file.

    Attributes:
        key: its name.
        dtype: of the numbers; uint8 where the tensors tell it.
        count: how many there are.
    """

    key: str
    dtype: torch.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in the file: which numbers of which storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def reach(self) -> int:
        """How many numbers of the storage lie between the first and the last that is used, both included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "Untyped": torch.uint8,
}
_NAMED_DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "uint8")
_PLAIN = (str, int, float, bool, type(None))


class Machine:
    """Carries out one pickle.

    Attributes:
        storages: those that it names, by their keys.
    """

    def __init__(self, stream: Any) -> None:
        """Args: stream: with `read(count)` and `readline()`, which bound what they return to LONGEST."""
        self._stream = stream
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = MOST
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """What the pickle makes; the stream then stands after it.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: it is no pickle.
        """
        # the library's types say that these are infinite; the last opcode ends them
        for opcode, argument, _place in cast(Iterator[tuple[Any, Any, int]], pickletools.genops(self._stream)):
            name = opcode.name
            self._spend(1)
            if name in _CONSTANTS:
                self._stack.append(argument if _CONSTANTS[name] is None else _CONSTANTS[name]())
            elif name in _SIMPLE:
                _SIMPLE[name](self, argument)
            elif name == "STOP":
                return self._stack.pop()
            elif name not in ("PROTO", "FRAME", "READONLY_BUFFER"):
                raise Damaged(f"its pickle has the instruction {name}")
        raise Damaged("its pickle has no end")

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise Damaged("its pickle has more instructions than that of any checkpoint")

    def _above_mark(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _pop(self, count: int = 1) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _put(self, index: Any) -> None:
        self._memo[int(index)] = self._stack[-1]

    def _put_next(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    def _tuple(self, count: int | None) -> None:
        self._stack.append(tuple(self._above_mark() if count is None else self._pop(count)))

    def _dict(self) -> None:
        values = self._above_mark()
        self._stack.append({})
        self._set(values)

    def _set(self, values: list[Any]) -> None:
        """Keys that are no plain values are left out: the hash of a tuple of tuples may take for ever."""
        target = self._stack[-1]
        if isinstance(target, dict):
            pairs = zip(values[::2], values[1::2], strict=True)
            target.update((key, value) for key, value in pairs if isinstance(key, _PLAIN))

    def _append(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _global(self, written: str) -> None:
        module, _, name = written.partition(" ")
        self._stack.append(Global(module, name))

    def _stack_global(self) -> None:
        module, name = self._pop(2)
        named = isinstance(module, str) and isinstance(name, str)
        self._stack.append(Global(module, name) if named else Unknown())

    def _unknown(self, _made_of: list[Any]) -> None:
        self._stack.append(Unknown())

    def _call(self) -> None:
        function, arguments = self._pop(2)
        if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], list):
            self._spend(len(arguments[0]))  # a list that is copied again and again
        self._stack.append(_called(function, arguments if isinstance(arguments, tuple) else ()))

    def _persistent(self, written: Any) -> None:
        """A storage: `('storage', its class, its key, where it was, how many numbers)`, and what it is a view of."""
        if not isinstance(written, tuple) or len(written) < 5 or written[0] != "storage":
            self._stack.append(Unknown())
            return
        kind, key, count = written[1], written[2], written[4]
        name = kind.name.removesuffix("Storage") if isinstance(kind, Global) else ""
        view = len(written) > 5 and written[5] is not None  # of a storage within another: torch wrote that before 0.4
        if name not in _DTYPES or not isinstance(key, str) or not _is_size(count) or view:
            self._stack.append(Unknown())
            return
        storage = Storage(key, _DTYPES[name], count)
        self.storages[key] = storage
        self._stack.append(storage)


_CONSTANTS: Mapping[str, Any] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), None),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"), None),
    **dict.fromkeys(("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), None),
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    **dict.fromkeys(("EMPTY_SET", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"), Unknown),
}
_SIMPLE: Mapping[str, Any] = {
    "MARK": lambda m, _: m._marks.append(len(m._stack)),
    "POP": lambda m, _: m._pop(),
    "POP_MARK": lambda m, _: m._above_mark(),
    "DUP": lambda m, _: m._stack.append(m._stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, argument: m._put(argument)),
    "MEMOIZE": lambda m, _: m._put_next(),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, argument: m._get(argument)),
    "TUPLE": lambda m, _: m._tuple(None),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._stack.append(m._above_mark()),
    "DICT": lambda m, _: m._dict(),
    "SETITEM": lambda m, _: m._set(m._pop(2)),
    "SETITEMS": lambda m, _: m._set(m._above_mark()),
    "APPEND": lambda m, _: m._append(m._pop()),
    "APPENDS": lambda m, _: m._append(m._above_mark()),
    "ADDITEMS": lambda m, _: m._above_mark(),
    "FROZENSET": lambda m, _: m._unknown(m._above_mark()),
    "GLOBAL": lambda m, argument: m._global(argument),
    "STACK_GLOBAL": lambda m, _: m._stack_global(),
    "REDUCE": lambda m, _: m._call(),
    "NEWOBJ": lambda m, _: m._call(),
    "NEWOBJ_EX": lambda m, _: m._unknown(m._pop(3)),
    "OBJ": lambda m, _: m._unknown(m._above_mark()),
    "INST": lambda m, _: m._unknown(m._above_mark()),
    "BUILD": lambda m, _: m._pop(),  # an object's attributes: of no interest for a dictionary, or of an unknown object
    "PERSID": lambda m, argument: m._persistent(argument),
    "BINPERSID": lambda m, _: m._persistent(m._pop()[0]),
}


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call would have made, if it is one of those by which torch writes tensors; else Unknown."""
    written = (function.module, function.name) if isinstance(function, Global) else ("", "")
    if written == ("torch._tensor", "_rebuild_from_type_v2") and len(arguments) == 4:
        # a tensor with attributes: the function that makes the tensor, its class, its arguments, the attributes
        function, _kind, arguments, _state = arguments
        written = (function.module, function.name) if isinstance(function, Global) else ("", "")
    if not isinstance(arguments, tuple):
        return Unknown()
    if written in (("collections", "OrderedDict"), ("collections", "defaultdict")):
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        pairs = [pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        return {key: value for key, value in pairs if isinstance(key, _PLAIN)}
    if written == ("torch", "Size") and len(arguments) == 1:
        return arguments[0]
    if written[0] == "torch._utils" and arguments:
        if written[1] in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return arguments[0] if isinstance(arguments[0], StoredTensor) else Unknown()
        if written[1] in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3") and len(arguments) >= 4:
            storage, offset, shape, stride = arguments[:4]
            return _tensor(storage, offset, shape, stride, arguments[6] if written[1].endswith("3") else None)
    return Unknown()


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, dtype: Any) -> StoredTensor | Unknown:
    """The description of a tensor. Raises Damaged if it reaches beyond its storage, or is larger than that."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        return Unknown()
    kind, count = storage.dtype, storage.count
    if dtype is not None:
        if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in _NAMED_DTYPES:
            return Unknown()
        kind = getattr(torch, dtype.name)
        count //= kind.itemsize
    if len(shape) != len(stride) or len(shape) > 64 or not all(map(_is_size, (offset, *shape, *stride))):
        raise Damaged("a tensor has an impossible shape")
    found = StoredTensor(storage, kind, offset, shape, stride)
    total = 1
    for size in shape:
        total *= size
    if offset + found.reach > count or total > count:
        raise Damaged(f"a tensor is larger than its storage {storage.key}")
    return found


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
