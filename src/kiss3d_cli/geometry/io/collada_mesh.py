"""A COLLADA mesh: sources of numbers, and primitives that name them by interleaved indices."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from kiss3d_cli.geometry.io.numbers import NoNumber, parse
from kiss3d_cli.geometry.io.part import no_faces
from kiss3d_cli.geometry.io.polygons import CrossingPolygon, crossing_message, triangulate
from kiss3d_cli.geometry.io.strips import fan_triangles, strip_triangles

if TYPE_CHECKING:
    from kiss3d_cli.geometry.io.collada import Collada

_POLYGONS = ("triangles", "polylist", "polygons", "tristrips", "trifans")


@dataclass(frozen=True)
class ColladaMesh:
    """One mesh's triangles.

    Attributes:
        vertices: (N, 3).
        faces: (F, 3).
        groups: for every primitive element: its material's symbol, how many faces it has, its texture coordinates by
            set and its corner colours, each (f, 3, C) or absent.
    """

    vertices: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "F 3"]
    groups: list[tuple[str, int, dict[int, np.ndarray], np.ndarray | None]]


def read_mesh_element(document: Collada, mesh: ET.Element) -> ColladaMesh:
    """Read a <mesh>. Raises BadInput: something in it does not fit."""
    source = document.source
    inputs = mesh.findall("vertices/input")
    position = next((entry.get("source") for entry in inputs if entry.get("semantic") == "POSITION"), None)
    if position is None:
        raise source.unreadable("a mesh of it has no positions")
    vertices = _source(document, position)
    if vertices.shape[1] != 3:
        raise source.unreadable("a mesh of it has positions of other than three numbers")
    own = {str(e.get("semantic")): e for e in inputs if e.get("semantic") in ("COLOR", "TEXCOORD")}
    faces, groups = [no_faces()], []
    for element in mesh:
        if element.tag in ("lines", "linestrips"):
            source.note("its lines are left out: only faces are compared")
        if element.tag not in _POLYGONS:
            continue
        corners, counts = _corners(document, element)
        offsets = _offsets(document, element)
        index = corners[:, offsets["VERTEX"][0][0]] if len(corners) else np.zeros(0, np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(vertices)):
            raise source.unreadable(f"a face names vertex {index.max()}, but there are {len(vertices)} vertices")
        try:
            places = triangulate(vertices, counts, index)
        except CrossingPolygon as error:
            raise source.refuse(*crossing_message(error, lambda number: f"polygon {number + 1} of a mesh")) from error
        faces.append(index[places])
        uvs = {number: _values(document, corners[places][..., at], link) for at, number, link in offsets["TEXCOORD"]}
        colors = [_values(document, corners[places][..., at], link) for at, _, link in offsets["COLOR"]]
        for name, entry in own.items():
            if name == "COLOR" and not colors:
                colors = [_values(document, index[places], str(entry.get("source")))]
            elif name == "TEXCOORD":
                uvs.setdefault(0, _values(document, index[places], str(entry.get("source"))))
        groups.append((element.get("material", ""), len(places), uvs, colors[0] if colors else None))
    return ColladaMesh(vertices, np.concatenate(faces), groups)


def _source(document: Collada, link: str) -> Float[np.ndarray, "N C"]:
    """A source's rows by its accessor."""
    found = document.target(link, "source")
    accessor = found.find("technique_common/accessor")
    array = None if accessor is None else document.named.get(accessor.get("source", "")[1:])
    if accessor is None or array is None or array.tag not in ("float_array", "int_array"):
        raise document.source.unreadable("a source of it has no numbers")
    values = document.numbers(array)
    try:
        declared = int(array.get("count", len(values)))
        count, stride, offset = (int(accessor.get(name, default)) for name, default in _ACCESSOR)
    except ValueError as error:
        raise document.source.unreadable("an accessor of it is damaged") from error
    params = accessor.findall("param")
    width = len(params) or stride
    if declared != len(values):
        raise document.source.unreadable(f"an array declares {declared} numbers, and holds {len(values)}")
    if min(count, offset) < 0 or stride < 1 or width > stride or offset + (count - 1) * stride + width > len(values):
        raise document.source.unreadable("an accessor goes past the end of its numbers")
    rows = values[offset : offset + max(count, 0) * stride]
    rows = np.pad(rows, (0, count * stride - len(rows))).reshape(count, stride)[:, :width]
    named = [place for place, param in enumerate(params) if param.get("name")]
    return rows[:, named] if 0 < len(named) < width else rows


_ACCESSOR = (("count", 0), ("stride", 1), ("offset", 0))


def _offsets(document: Collada, element: ET.Element) -> dict[str, list[tuple[int, int, str]]]:
    """Place in a corner, set and source of every input by its meaning."""
    found: dict[str, list[tuple[int, int, str]]] = {"VERTEX": [], "TEXCOORD": [], "COLOR": []}
    try:
        for entry in element.findall("input"):
            row = (int(entry.get("offset", "")), int(entry.get("set", "0")), entry.get("source", ""))
            if not 0 <= row[0] < 1000:
                raise ValueError
            found.setdefault(entry.get("semantic", ""), []).append(row)
    except ValueError as error:
        raise document.source.unreadable("an input of a mesh is damaged") from error
    if len(found["VERTEX"]) != 1:
        raise document.source.unreadable("a mesh of it has faces without vertices")
    return found


def _integers(document: Collada, element: ET.Element | None) -> Int[np.ndarray, " C"]:
    try:
        return parse(("" if element is None else element.text or "").encode(), np.int64)
    except NoNumber as error:
        raise document.source.unreadable("a mesh's indices are not whole numbers") from error


def _corners(document: Collada, element: ET.Element) -> tuple[Int[np.ndarray, "C K"], Int[np.ndarray, " P"]]:
    """The corners of all polygons, and how many each has."""
    source = document.source
    width = 1 + max(place for rows in _offsets(document, element).values() for place, _, _ in rows)
    if element.find("ph") is not None:
        raise source.refuse("it has polygons with holes, which kiss3d does not read", "triangulate and export it again")
    pieces = [_integers(document, child) for child in element.findall("p")]
    if any(len(piece) % width for piece in pieces):
        raise source.unreadable("a mesh's indices are not whole corners")
    rows = [piece.reshape(-1, width) for piece in pieces]
    joined = np.concatenate([np.zeros((0, width), np.int64), *rows])
    if element.tag in ("tristrips", "trifans"):
        unfold = strip_triangles if element.tag == "tristrips" else fan_triangles
        order = np.cumsum([0, *(len(row) for row in rows)])
        places = [unfold(np.arange(len(row))) + start for row, start in zip(rows, order, strict=False)]
        joined = joined[np.concatenate([no_faces(), *places]).reshape(-1)]
        return joined, np.full(len(joined) // 3, 3)
    if element.tag == "polygons":
        counts = np.array([len(row) for row in rows], np.int64)
    elif element.tag == "polylist":
        counts = _integers(document, element.find("vcount"))
        if counts.min(initial=0) < 0 or counts.max(initial=0) > len(joined) or counts.sum() != len(joined):
            raise source.unreadable("a mesh's polygons have not as many corners as it says")
    else:
        if len(joined) % 3:
            raise source.unreadable("a mesh's triangles are not whole")
        counts = np.full(len(joined) // 3, 3)
    short = counts < 3
    if short.any():
        source.note_short(int(short.sum()))
        joined, counts = joined[~np.repeat(short, counts)], counts[~short]
    return joined, counts


def _values(document: Collada, index: Int[np.ndarray, "F 3"], link: str) -> Float[np.ndarray, "F 3 C"]:
    """A source's rows at corners; none at all without textures, which alone need them."""
    if not document.source.textures:
        return np.zeros((len(index), 3, 0))
    rows = _source(document, link)
    if index.size and (index.min() < 0 or index.max() >= len(rows)):
        raise document.source.unreadable("a corner names a coordinate or colour that is not there")
    return rows[index]
