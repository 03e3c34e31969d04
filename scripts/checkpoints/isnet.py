"""A stand-in for IS-Net in rembg's layout: what is darker than white is the object.

ONNX files are protocol buffers; the few messages that one node needs are written here by hand.
"""

from __future__ import annotations

import struct
from pathlib import Path

REPOSITORY = "danielgatis/rembg"
FILE = "isnet-general-use.onnx"
SIDE = 1024
FLOAT = 1
"""ONNX's number of the element type."""


def write(root: Path, size: str, seed: int) -> None:
    """The same tiny network for either size: the real one is for the CPU and has no layout of its own to test."""
    del size, seed
    path = root / REPOSITORY / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model(weights=(-8.0, -8.0, -8.0), bias=9.5))


def model(weights: tuple[float, float, float], bias: float) -> bytes:
    """sigmoid(weights . rgb + bias), pixel by pixel; rgb lies in [-0.5, 0.5]."""
    convolution = _node("Conv", ("input_image", "weight", "bias"), "logits")
    sigmoid = _node("Sigmoid", ("logits",), "output_image")
    graph = _field(1, convolution) + _field(1, sigmoid) + _field(2, b"isnet")
    graph += _field(5, _tensor("weight", (1, 3, 1, 1), weights)) + _field(5, _tensor("bias", (1,), (bias,)))
    graph += _field(11, _value("input_image", 3)) + _field(12, _value("output_image", 1))
    opset = _field(1, b"") + _number(2, 13)
    return _number(1, 8) + _field(7, graph) + _field(8, opset)


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    return (
        b"".join(_field(1, name.encode()) for name in inputs)
        + _field(2, output.encode())
        + _field(4, operator.encode())
    )


def _tensor(name: str, shape: tuple[int, ...], values: tuple[float, ...]) -> bytes:
    dims = b"".join(_number(1, side) for side in shape)
    return dims + _number(2, FLOAT) + _field(8, name.encode()) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, channels: int) -> bytes:
    dims = b"".join(_field(1, _number(1, side)) for side in (1, channels, SIDE, SIDE))
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, FLOAT) + _field(2, dims)))


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
