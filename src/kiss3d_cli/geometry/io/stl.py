"""STL, binary and text: triangles, three vertices each."""

from __future__ import annotations

import re

import numpy as np

from kiss3d_cli.geometry.io.numbers import NoNumber, parse, plain_text, shown
from kiss3d_cli.geometry.io.part import Part
from kiss3d_cli.geometry.io.source import Source

_HEADER, _ROW = 84, 50
_WORD = re.compile(rb"[^\s]+")
_FACET = re.compile(
    rb"\s*facet\s+normal\s+\S+\s+\S+\s+\S+\s+outer\s+loop\s+"
    rb"vertex\s+(\S+\s+\S+\s+\S+)\s+vertex\s+(\S+\s+\S+\s+\S+)\s+vertex\s+(\S+\s+\S+\s+\S+)\s+endloop\s+endfacet(?=\s)",
    re.IGNORECASE,
)
_SOLID = re.compile(rb"\s*(?:end)?solid\b[^\n]*(?:\n|$)", re.IGNORECASE)


def read_stl(source: Source) -> list[Part]:
    """Read an STL; which of the two kinds it is shows in its length, as the first word is not to be trusted.

    Raises:
        BadInput: it is cut off, goes on after its last triangle, or is not an STL.
    """
    data = source.data()
    if len(data) >= _HEADER:
        count = int.from_bytes(data[80:84], "little")
        if len(data) == _HEADER + _ROW * count:
            return [_binary(data, count)]
    if data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(b"solid") and b"\0" not in data:
        return [_text(source, data)]
    if len(data) < _HEADER:
        raise source.unreadable(f"it has {len(data)} bytes, and a binary one has at least {_HEADER}")
    held = (len(data) - _HEADER) // _ROW
    if held >= count and not data[_HEADER + _ROW * count :].strip(b"\0 \r\n"):
        return [_binary(data, count)]
    if held < count:
        raise source.unreadable(f"its header declares {count} triangles, and it holds {held}: it is cut off")
    raise source.unreadable(f"its header declares {count} triangles, and it goes on after them")


def _binary(data: bytes, count: int) -> Part:
    rows = np.frombuffer(data, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")], count, _HEADER)
    return Part(rows["corners"].reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def _text(source: Source, data: bytes) -> Part:
    try:
        text = plain_text(data)
    except NoNumber as error:
        raise source.unreadable(str(error)) from error
    position, rows, closed = 0, [], True
    while position < len(text):
        facet = _FACET.match(text, position)
        if facet is not None and not closed:
            rows.append(b" ".join(facet.groups()))
            position = facet.end()
            continue
        solid = _SOLID.match(text, position)
        if solid is not None and solid[0].split(None, 1)[0].lower().startswith(b"end") != closed:
            closed, position = not closed, solid.end()
            continue
        if not text[position:].strip():
            break
        word = _WORD.search(text, position)
        at = word.start() if word is not None else position
        line = text.count(b"\n", 0, at) + 1
        quoted = shown(text[at:].split(b"\n", 1)[0])
        raise source.unreadable(f"line {line} is not what an STL has there: {quoted}")
    if not closed:
        raise source.unreadable("it is cut off: its last line is not 'endsolid'")
    try:
        values = parse(b" ".join(rows))
        if len(values) != 9 * len(rows):
            raise NoNumber
    except NoNumber as error:
        raise source.unreadable("a vertex is not three numbers") from error
    return Part(values.reshape(-1, 3), np.arange(3 * len(rows)).reshape(-1, 3))
