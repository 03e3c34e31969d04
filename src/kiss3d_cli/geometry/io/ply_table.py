"""The elements of a PLY as tables: the header, and rows of numbers in text or binary (Turk 1994)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from kiss3d_cli.geometry.io.numbers import NoNumber, parse
from kiss3d_cli.geometry.io.source import Source

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip
_AT_ONCE = 1 << 16  # rows with lists whose values are gathered together
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Property:
    """A column: numbers of a type, or lists of them that start with a count of another type."""

    name: str
    type: str
    count_type: str | None = None


@dataclass
class Element:
    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


@dataclass(frozen=True)
class Lists:
    """A column of lists.

    Attributes:
        counts: (R,) the length of every row's list.
        values: all lists, one after the other.
    """

    counts: Int[np.ndarray, " R"]
    values: np.ndarray


@dataclass(frozen=True)
class Header:
    format: str
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    length: int


Table = dict[str, "np.ndarray | Lists"]


def read_tables(source: Source) -> tuple[Header, dict[str, Table]]:
    """The header, and the columns of every element by name.

    Raises:
        BadInput: the header is wrong, or the data are not what it declares.
    """
    data = source.data()
    header = _header(source, data)
    body = memoryview(data)[header.length :]
    tables = _text_tables(source, header, body) if header.format == "ascii" else _binary_tables(source, header, body)
    return header, tables


def _header(source: Source, data: bytes) -> Header:
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if data[start : start + 3] != b"ply":
        raise source.unreadable("its first word is not ply")
    ending = b"\r\n" if data[start + 3 : start + 5] == b"\r\n" else data[start + 3 : start + 4]
    if ending not in (b"\n", b"\r", b"\r\n"):
        ending = b"\n"  # blanks after the word
    end = data.find(b"end_header", start)
    while end >= 0 and data[end - 1 : end] not in (b"\n", b"\r"):
        end = data.find(b"end_header", end + 1)
    stop = data.find(ending, end) if end >= 0 else -1
    if stop < 0 or data[end + 10 : stop].strip():
        raise source.unreadable("its header has no end")
    lines = data[start:end].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")[1:]
    kind, elements, comments = "", [], []
    for number, line in enumerate(lines, 2):
        words = line.split()
        wrong = source.unreadable(f"line {number} of its header is not understood: {' '.join(words)[:60]!r}")
        if not words:
            continue
        if words[0] in ("comment", "obj_info"):
            comments.append(line.strip().split(None, 1)[-1])
        elif words[0] == "format" and len(words) == 3 and words[1] in _ORDERS and words[2] == "1.0":
            kind = words[1]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal() and words[2].isascii():
            elements.append(Element(words[1], int(words[2])))
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in _TYPES:
            elements[-1].properties.append(Property(words[2], _TYPES[words[1]]))
        elif (
            words[0] == "property" and elements and len(words) == 5 and words[1] == "list"
            and words[2] in _TYPES and words[3] in _TYPES and _TYPES[words[2]][0] in "iu"
        ):  # fmt: skip
            elements[-1].properties.append(Property(words[4], _TYPES[words[3]], _TYPES[words[2]]))
        else:
            raise wrong
    if not kind:
        raise source.unreadable("its header names no format")
    for element in elements:
        names = [entry.name for entry in element.properties]
        if len(set(names)) < len(names) or [other.name for other in elements].count(element.name) > 1:
            raise source.unreadable(f"its header declares something of element '{element.name[:40]}' twice")
    return Header(kind, tuple(elements), tuple(comments), stop + len(ending))


def _cut_off(source: Source, element: Element, rows: int | None = None) -> Exception:
    held = "fewer" if rows is None else f"{rows}"
    return source.unreadable(
        f"its header declares {element.count} rows of '{element.name[:40]}', and it holds {held}: it is cut off"
    )


def _binary_tables(source: Source, header: Header, body: memoryview) -> dict[str, Table]:
    order, place = _ORDERS[header.format], 0
    tables: dict[str, Table] = {}
    for element in header.elements:
        if not element.properties:
            continue
        if all(column.count_type is None for column in element.properties):
            row = np.dtype([(column.name, order + column.type) for column in element.properties])
            held = (len(body) - place) // row.itemsize
            if held < element.count:
                raise _cut_off(source, element, held)
            rows = np.frombuffer(body, row, element.count, place)
            tables[element.name] = {column.name: rows[column.name] for column in element.properties}
            place += row.itemsize * element.count
        else:
            tables[element.name], place = _lists(source, element, order, body, place)
    left = bytes(body[place : place + 64])
    if left.strip(b"\0 \r\n\t"):
        raise source.unreadable("it goes on after the last row that its header declares")
    return tables


def _lists(source: Source, element: Element, order: str, body: memoryview, place: int) -> tuple[Table, int]:
    """Rows with lists. All rows are alike as a rule; where they are not, one pass finds where each begins."""
    shortest = sum(np.dtype(column.count_type or column.type).itemsize for column in element.properties)
    if element.count * shortest > len(body) - place:
        raise _cut_off(source, element, (len(body) - place) // shortest)
    if element.count == 0:
        return {column.name: _empty(column) for column in element.properties}, place
    lengths = _row_lengths(element, order, body, place)
    if lengths is None:
        raise _cut_off(source, element)
    table = _alike(element, order, body, place, lengths)
    if table is not None:
        return table
    return _unlike(source, element, order, body, place)


def _empty(column: Property) -> np.ndarray | Lists:
    values = np.zeros(0, column.type)
    return values if column.count_type is None else Lists(np.zeros(0, np.int64), values)


def _row_lengths(element: Element, order: str, body: memoryview, place: int) -> list[int] | None:
    """The lengths of the lists in the row that starts at `place`; None if it goes past the end."""
    lengths = []
    for column in element.properties:
        length = 1
        if column.count_type is not None:
            size = np.dtype(column.count_type).itemsize
            if place + size > len(body):
                return None
            length = int(np.frombuffer(body, order + column.count_type, 1, place)[0])
            place += size
            if length < 0:
                return None
            lengths.append(length)
        place += length * np.dtype(column.type).itemsize
    return lengths if place <= len(body) else None


def _alike(element: Element, order: str, body: memoryview, place: int, lengths: list[int]) -> tuple[Table, int] | None:
    """The table if every row's lists are as long as those of the first row."""
    fields: list[tuple[str, str] | tuple[str, str, int]] = []
    rest = iter(lengths)
    for number, column in enumerate(element.properties):
        if column.count_type is not None:
            fields.append((f"n{number}", order + column.count_type))
            fields.append((f"p{number}", order + column.type, next(rest)))
        else:
            fields.append((f"p{number}", order + column.type))
    row = np.dtype(fields)
    if row.itemsize * element.count > len(body) - place:
        return None
    rows = np.frombuffer(body, row, element.count, place)
    table: Table = {}
    rest = iter(lengths)
    for number, column in enumerate(element.properties):
        values = rows[f"p{number}"]
        if column.count_type is None:
            table[column.name] = values
            continue
        length = next(rest)
        if not (rows[f"n{number}"] == length).all():
            return None
        table[column.name] = Lists(np.full(element.count, length), values.reshape(-1))
    return table, place + row.itemsize * element.count


def _unlike(source: Source, element: Element, order: str, body: memoryview, place: int) -> tuple[Table, int]:
    kinds = [
        (np.dtype(column.type).itemsize, None if column.count_type is None else np.dtype(column.count_type).itemsize)
        for column in element.properties
    ]
    signs = [column.count_type is not None and column.count_type[0] == "i" for column in element.properties]
    little, limit = order == "<", len(body)
    begins = [array("q") for _ in kinds]
    counts = [array("q") for _ in kinds]
    for _ in range(element.count):
        for number, (size, count_size) in enumerate(kinds):
            length = 1
            if count_size == 1:
                if place >= limit:
                    raise _cut_off(source, element, len(begins[-1]))
                length = body[place]
                place += 1
            elif count_size is not None:
                length = int.from_bytes(body[place : place + count_size], "little" if little else "big")
                place += count_size
            if count_size is not None:
                if signs[number] and length >= 1 << (8 * count_size - 1):
                    raise source.unreadable(f"a list in element '{element.name[:40]}' has a negative length")
                counts[number].append(length)
            begins[number].append(place)
            place += size * length
        if place > limit:
            raise _cut_off(source, element, len(begins[-1]) - 1)
    table: Table = {}
    flat = np.frombuffer(body, np.uint8)
    for number, column in enumerate(element.properties):
        size = kinds[number][0]
        starts = np.array(begins[number], np.int64)
        lengths = np.ones_like(starts) if column.count_type is None else np.array(counts[number], np.int64)
        pieces = [np.zeros(0, np.uint8)]
        for low in range(0, len(starts), _AT_ONCE):
            some, first = lengths[low : low + _AT_ONCE], starts[low : low + _AT_ONCE]
            first = np.repeat(first - (np.cumsum(some) - some) * size, some)
            bytes_of = first + np.arange(int(some.sum())) * size
            pieces.append(flat[bytes_of[:, None] + np.arange(size)].reshape(-1))
        values = np.concatenate(pieces).view(order + column.type)
        table[column.name] = values if column.count_type is None else Lists(lengths, values)
    return table, place


def _text_tables(source: Source, header: Header, body: memoryview) -> dict[str, Table]:
    """Numbers one after the other; where a line ends has no meaning."""
    try:
        values = parse(bytes(body).replace(b"\0", b"x"))
    except NoNumber as error:
        raise source.unreadable("something after its header is not a number") from error
    place = 0
    tables: dict[str, Table] = {}
    for element in header.elements:
        width = len(element.properties)
        if element.count * width > len(values) - place:
            raise _cut_off(source, element, (len(values) - place) // max(width, 1))
        if not width:
            continue
        if all(column.count_type is None for column in element.properties):
            rows = values[place : place + width * element.count].reshape(-1, width)
            tables[element.name] = {
                column.name: _as_declared(column, rows[:, i]) for i, column in enumerate(element.properties)
            }
            place += width * element.count
        else:
            tables[element.name], place = _text_lists(source, element, values, place)
    if place < len(values):
        raise source.unreadable("it goes on after the last row that its header declares, or its rows are longer")
    return tables


def _as_declared(column: Property, values: np.ndarray) -> np.ndarray:
    """A float has 32 bits in text too: other readers, and the binary form of the same file, have no more."""
    return values.astype(np.float32) if column.type == "f4" else values


def _text_lists(source: Source, element: Element, values: np.ndarray, place: int) -> tuple[Table, int]:
    begins: list[list[int]] = [[] for _ in element.properties]
    lengths = _text_lengths(element, values, place)
    width = len(element.properties) + sum(lengths)
    end = place + width * element.count
    alike = end <= len(values) and element.count > 0
    columns: list[tuple[int, int | None]] = []
    if alike:
        rows, at, rest = values[place:end].reshape(-1, width), 0, iter(lengths)
        for column in element.properties:
            length = None if column.count_type is None else next(rest)
            alike = alike and (length is None or bool((rows[:, at] == length).all()))
            columns.append((at + (length is not None), length))
            at += 1 + (length or 0)
    if alike:
        table: Table = {}
        for column, (at, length) in zip(element.properties, columns, strict=True):
            if length is None:
                table[column.name] = rows[:, at]
            else:
                table[column.name] = Lists(np.full(element.count, length), rows[:, at : at + length].reshape(-1))
        return table, end
    counts: list[list[int]] = [[] for _ in element.properties]
    total = len(values)
    for row in range(element.count):
        for number, column in enumerate(element.properties):
            length = 1
            if column.count_type is not None:
                if place >= total:
                    raise _cut_off(source, element, row)
                count = values[place]
                if not 0 <= count <= total or count % 1:
                    raise source.unreadable(f"row {row + 1} of '{element.name[:40]}' starts a list with {count:g}")
                length, place = int(count), place + 1
            begins[number].append(place)
            counts[number].append(length)
            place += length
        if place > total:
            raise _cut_off(source, element, row)
    table = {}
    for number, column in enumerate(element.properties):
        sizes = np.array(counts[number], np.int64)
        first = np.repeat(np.array(begins[number], np.int64) - (np.cumsum(sizes) - sizes), sizes)
        found = values[first + np.arange(int(sizes.sum()))]
        table[column.name] = found if column.count_type is None else Lists(sizes, found)
    return table, place


def _text_lengths(element: Element, values: np.ndarray, place: int) -> list[int]:
    """The lengths of the lists in the row at `place`, as far as it goes."""
    lengths = []
    for column in element.properties:
        if column.count_type is None:
            place += 1
            continue
        count = values[place] if place < len(values) else 0
        length = int(count) if 0 <= count <= len(values) else 0
        lengths.append(length)
        place += 1 + length
    return lengths
