"""Numbers in text, many at once: exact, and strict about what is no number."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

CHUNK = 4 << 20  # bytes of text that are looked at together, which bounds the memory that it takes


class NoNumber(ValueError):
    """Something in the text is no number of the wanted kind."""


def parse(text: bytes, dtype: Any = np.float64) -> np.ndarray:
    """All numbers of a text that has nothing but numbers and blanks; correctly rounded.

    Raises:
        NoNumber: it has something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # what numpy before 2.3 says instead of raising
        try:
            return np.fromstring(text, dtype=dtype, sep=" ")
        except (ValueError, DeprecationWarning) as error:
            raise NoNumber("something in it is no number") from error


def lines_of(text: bytes, size: int = CHUNK) -> Iterator[tuple[int, bytes]]:
    """The text in pieces of whole lines of about `size` bytes, each with the number of its first line from 1."""
    start, line = 0, 1
    while start < len(text):
        end = text.rfind(b"\n", start, start + size) + 1
        if end <= start:
            end = text.find(b"\n", start) + 1 or len(text)
        piece = text[start:end]
        yield line, piece
        line += piece.count(b"\n")
        start = end


def token_starts(data: UInt8[np.ndarray, " B"]) -> tuple[np.ndarray, np.ndarray]:
    """Where words start, and which bytes are blanks.

    Args:
        data: (B,) uint8.

    Returns:
        Two (B,) bool arrays.
    """
    blank = data <= 32
    starts = ~blank
    starts[1:] &= blank[:-1]
    return starts, blank


def words_per_line(data: UInt8[np.ndarray, " B"]) -> Int[np.ndarray, " L"]:
    """How many words every line has; the last line may lack its end."""
    starts, _ = token_starts(data)
    ends = np.flatnonzero(data == 10)
    total = np.cumsum(starts, dtype=np.int32)
    counts = total[ends]
    if len(data) and data[-1] != 10:
        counts = np.append(counts, total[-1])
    return np.diff(counts, prepend=0)


def plain_text(data: bytes) -> bytes:
    """Without a byte-order mark, and with every line ended by a line feed.

    Raises:
        NoNumber: it has a zero byte, which no text has.
    """
    data = utf8(data)
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if b"\0" in data:
        raise NoNumber("it is not text")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def utf8(data: bytes) -> bytes:
    """UTF-16 text, which its byte-order mark tells, as UTF-8; all else as it is."""
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data
    try:
        return data.decode("utf-16").encode()
    except UnicodeError as error:
        raise NoNumber("its UTF-16 text is damaged") from error


def shown(line: bytes) -> str:
    """A line of a file as a message can quote it."""
    text = " ".join(line.decode("utf-8", "replace").split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return repr(text if len(text) <= 60 else text[:57] + "...")
