"""What an ONNX file takes and gives, read off its protocol buffer without the weights and without onnxruntime.

Field numbers are those of the public `onnx.proto3`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kiss3d_cli.core.errors import Missing

GRAPH, OPERATORS = 7, 8
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
LONGEST = 2**20
"""Bytes of a message that is read whole; anything longer is weights."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """Shapes of what a network takes and gives; 0 stands for a side of any length."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


def read_signature(path: Path) -> Signature:
    """Walk through the file's messages. Raises Missing if it ends too early or is no ONNX file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            parts = dict(_fields(file, size))
            if GRAPH not in parts or OPERATORS not in parts:
                raise ValueError
            start, stop = parts[GRAPH]
            file.seek(start)
            initial, values, nodes = set(), {INPUT: {}, OUTPUT: {}}, 0  # type: ignore[var-annotated]
            for number, (first, last) in _fields(file, stop):
                nodes += number == NODE
                if number == INITIALIZER:
                    initial.add(_name_of(file, first, last, 8))
                elif number in values:
                    name = _name_of(file, first, last, 1)
                    values[number][name] = _shape(file, first, last)
                file.seek(last)
    except EOFError:
        raise Missing(f"it is cut short after {size:,} bytes", place=str(path)) from None
    except (ValueError, IndexError):
        raise Missing("it is no ONNX network, or damaged", place=str(path)) from None
    except OSError as error:
        raise Missing(f"it can't be read: {error.strerror or error}", place=str(path)) from None
    if not nodes:
        raise Missing("it is no ONNX network, or damaged", place=str(path))
    taken = tuple(shape for name, shape in values[INPUT].items() if name not in initial)
    return Signature(taken, tuple(values[OUTPUT].values()))


def _fields(file: BinaryIO, stop: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and extent of each message up to `stop`; of a plain number, the number itself twice."""
    while file.tell() < stop:
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value = _varint(file)
            yield number, (value, value)
            continue
        length = {1: 8, 5: 4}.get(wire)
        if length is None:
            if wire != 2 or number == 0:
                raise ValueError
            length = _varint(file)
        start = file.tell()
        if start + length > stop:
            raise EOFError
        yield number, (start, start + length)
        file.seek(start + length)


def _name_of(file: BinaryIO, start: int, stop: int, field: int) -> bytes:
    file.seek(start)
    for number, (first, last) in _fields(file, stop):
        if number == field and last - first < LONGEST:
            file.seek(first)
            return file.read(last - first)
    return b""


def _shape(file: BinaryIO, start: int, stop: int) -> tuple[int, ...]:
    """Of a ValueInfoProto: type (2), tensor (1), shape (2), dimensions (1), each a number (1) or a name (2)."""
    place = (start, stop)
    for wanted in (2, 1, 2):
        file.seek(place[0])
        found = [extent for number, extent in _fields(file, place[1]) if number == wanted]
        if not found:
            return ()
        place = found[0]
    file.seek(place[0])
    sides = []
    for number, (first, last) in list(_fields(file, place[1])):
        if number == 1:
            file.seek(first)
            sides.append(next((value for n, (value, _) in _fields(file, last) if n == 1), 0))
    return tuple(sides)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
        if shift > 63:
            raise ValueError
