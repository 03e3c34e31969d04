"""Picture files with what few programs write: ICC profiles by their numbers, PNG chunks, TIFF tags, camera raw."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SRGB_COLORANTS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
ADOBE_COLORANTS = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""Red, green and blue in XYZ, adapted to D50, as the published profiles hold them."""


def icc_profile(colorants: tuple[tuple[float, float, float], ...], gamma: float, name: str) -> bytes:
    """A matrix profile of version 2 (ICC.1:2001-04) with one power for all three channels."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = name.encode() + b"\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * (4 + 4 + 2 + 1 + 67)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    white = (0.9642, 1.0, 0.8249)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(white)}
    tags |= {letter + b"XYZ": xyz(values) for letter, values in zip((b"r", b"g", b"b"), colorants, strict=True)}
    tags |= {letter + b"TRC": curve for letter in (b"r", b"g", b"b")}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"test", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(fixed, white))
    return header + b"\0" * (128 - len(header)) + table + body


def png_with(path: Path, rgb: np.ndarray, **chunks: bytes) -> Path:
    """A PNG with chunks of the user's own before its pixels."""
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "PNG")
    raw = data.getvalue()
    extra = b"".join(
        struct.pack(">I", len(body)) + kind.encode() + body + struct.pack(">I", zlib.crc32(kind.encode() + body))
        for kind, body in chunks.items()
    )
    path.write_bytes(raw[:33] + extra + raw[33:])
    return path


def tiff(path: Path, pixels: np.ndarray, *, order: str = "<", subs: int = 0, **tags: int) -> Path:
    """An uncompressed TIFF of one strip, its tags by hand (TIFF 6.0).

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
        order: byte order.
        subs: photometric interpretation of a second directory that a SubIFDs tag leads to; 0 for none.
        tags: `t<number>=value`, SHORT, over the usual ones.
    """
    height, width, samples = pixels.shape
    body = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    body += b"\0" * (len(body) % 2)
    bits = 8 * pixels.dtype.itemsize
    entries = {256: (3, width), 257: (3, height), 259: (3, 1), 262: (3, 2), 273: (4, 0), 277: (3, samples)}
    entries |= {278: (3, height), 279: (4, pixels.nbytes)}
    entries |= {int(key[1:]): (3, value) for key, value in tags.items()}
    if subs:
        entries[330] = (4, 0)
    at = 8 + len(body)
    long_bits = at
    body += struct.pack(f"{order}{samples}H", *[bits] * samples) + b"\0" * (2 * (samples % 2))
    sub = 8 + len(body)
    body += struct.pack(order + "HHHIHHI", 1, 262, 3, 1, subs, 0, 0)
    start = 8 + len(body)
    entries[273] = (4, 8)
    if subs:
        entries[330] = (4, sub)
    directory = struct.pack(order + "H", len(entries) + 1)
    for tag in sorted([*entries, 258]):
        if tag == 258:
            where = struct.pack(order + "I", long_bits) if samples > 2 else struct.pack(order + "HH", bits, bits)
            directory += struct.pack(order + "HHI", 258, 3, samples) + where
            continue
        kind, value = entries[tag]
        packed = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        directory += struct.pack(order + "HHI", tag, kind, 1) + packed
    directory += struct.pack(order + "I", 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(mark + struct.pack(order + "I", start) + body + directory)
    return path
