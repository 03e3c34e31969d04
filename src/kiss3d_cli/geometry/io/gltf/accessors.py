"""Accessors: typed arrays in buffers, with gaps, normalised integers and sparse replacements."""

from __future__ import annotations

from typing import Any

import numpy as np

from kiss3d_cli.geometry.io.gltf.document import Document

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4", 5130: "<f8"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_INDEX_TYPES = (5121, 5123, 5125)


def read_accessor(document: Document, index: Any, columns: tuple[int, ...], what: str) -> np.ndarray:
    """The elements of an accessor as stored; normalised integers as float64 in [-1, 1] or [0, 1].

    Args:
        index: of the accessor.
        columns: how many numbers an element may have.
        what: for messages.

    Returns:
        (N, C), which may be a view of the file's bytes.

    Raises:
        BadInput: it is not what `what` can be, or goes past its buffer.
    """
    entry = document.entry("accessors", index)
    width, kind = _COLUMNS.get(str(entry.get("type"))), _TYPES.get(document.integer(entry, "componentType"))
    count = document.integer(entry, "count")
    if width not in columns or kind is None or count == 0:
        raise document.wrong(f"accessors[{index}] is not {what}")
    dtype = np.dtype(kind)
    if "bufferView" in entry:
        view, stride = document.view(entry["bufferView"])
        values = _strided(document, view, document.integer(entry, "byteOffset", 0), stride, count, width, dtype)
    else:
        document.source.claim(count, width * dtype.itemsize, what)
        values = np.zeros((count, width), dtype)
    if "sparse" in entry:
        values = _replaced(document, document.object(entry, "sparse"), values, what)
    return _normalised(values) if entry.get("normalized") is True else values


def accessor_count(document: Document, index: Any) -> int:
    """How many elements an accessor declares."""
    return document.integer(document.entry("accessors", index), "count")


def _strided(
    document: Document, view: memoryview, offset: int, stride: int | None, count: int, width: int, dtype: np.dtype[Any]
) -> np.ndarray:
    size = width * dtype.itemsize
    step = stride or size
    if offset + step * (count - 1) + size > len(view):
        raise document.wrong("an accessor goes past the end of its data")
    if step < size:
        raise document.wrong("an accessor's elements overlap")
    return np.ndarray((count, width), dtype, view, offset, (step, dtype.itemsize))


def _replaced(document: Document, sparse: dict[str, Any], values: np.ndarray, what: str) -> np.ndarray:
    """With some elements replaced (glTF 2.0, section 3.6.2.3)."""
    count = document.integer(sparse, "count")
    places, news = document.object(sparse, "indices"), document.object(sparse, "values")
    if places.get("componentType") not in _INDEX_TYPES:
        raise document.wrong("a sparse accessor's indices are not whole numbers")
    document.source.claim(len(values), values.itemsize * values.shape[1], what)
    values = values.copy()
    if count == 0:
        return values
    view, stride = document.view(places.get("bufferView"))
    kind = np.dtype(_TYPES[places["componentType"]])
    index = _strided(document, view, document.integer(places, "byteOffset", 0), stride, count, 1, kind)[:, 0]
    if int(index.max()) >= len(values):
        raise document.wrong("a sparse accessor replaces an element that is not there")
    view, stride = document.view(news.get("bufferView"))
    offset = document.integer(news, "byteOffset", 0)
    values[index] = _strided(document, view, offset, stride, count, values.shape[1], values.dtype)
    return values


def _normalised(values: np.ndarray) -> np.ndarray:
    """Integers as fractions of their largest value (section 3.6.2.2); floats stay."""
    if values.dtype.kind == "f":
        return values
    fraction = values.astype(np.float64) / np.iinfo(values.dtype).max
    return np.maximum(fraction, -1.0)
