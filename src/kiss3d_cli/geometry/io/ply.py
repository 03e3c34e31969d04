"""PLY: polygons, triangle strips and points, with colours of vertices and faces and textures as MeshLab writes them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.part import Part, by_corner, by_face, no_faces
from kiss3d_cli.geometry.io.picture import NoPicture, Picture, encoded, open_picture
from kiss3d_cli.geometry.io.ply_table import Header, Lists, Table, read_tables
from kiss3d_cli.geometry.io.polygons import CrossingPolygon, crossing_message, triangulate
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.io.strips import strip_triangles

_COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_INDEX_NAMES = ("vertex_indices", "vertex_index")
_UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))


def read_ply(source: Source) -> list[Part]:
    """Read a PLY.

    Raises:
        BadInput: the data are not what the header declares, or hold no vertices or polygons without a definite surface.
    """
    header, tables = read_tables(source)
    vertex = tables.get("vertex", {})
    axes = [vertex.get(axis) for axis in "xyz"]
    if any(not isinstance(axis, np.ndarray) for axis in axes):
        raise source.unreadable("it declares no vertices with x, y and z")
    points = np.stack([np.asarray(axis) for axis in axes], 1)
    if points.dtype.kind in "iu" or points.dtype == np.float16:
        points = points.astype(np.float64)
    colors = _colors(source, vertex, header, "vertex")
    counts, indices, face_rows = _polygons(source, tables)
    if len(indices) and (indices.min() < 0 or indices.max() >= len(points)):
        bad = indices.min() if indices.min() < 0 else indices.max()
        cause = f"a face names vertex {bad}, but there are {len(points)} vertices, counted from 0"
        raise source.refuse(cause, "the file is damaged: export the mesh again")
    if not len(counts):
        return [Part(points, no_faces(), colors)]
    try:
        places = triangulate(points, counts, indices)
    except CrossingPolygon as error:
        raise source.refuse(*crossing_message(error, lambda number: f"face {face_rows[number] + 1}")) from error
    part = Part(points, indices[places], colors)
    if not source.textures:
        return [part]
    return [_painted(source, header, tables, part, places, counts, face_rows)]


def _polygons(
    source: Source, tables: dict[str, Table]
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " C"], Int[np.ndarray, " P"]]:
    """Corners of every polygon, their vertices, and the row of the face element that each comes from (or -1)."""
    counts, indices, rows = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    face = tables.get("face", {})
    column = next((face[name] for name in _INDEX_NAMES if name in face), None)
    if isinstance(column, Lists):
        counts, indices, rows = column.counts, _whole(source, column.values), np.arange(len(column.counts))
        short = counts < 3
        if short.any():
            source.note_short(int(short.sum()))
            indices = indices[~np.repeat(short, counts)]
            counts, rows = counts[~short], rows[~short]
    elif any(len(values.counts) if isinstance(values, Lists) else len(values) for values in face.values()):
        raise source.unreadable("its faces have no list called vertex_indices")
    strips = tables.get("tristrips", {})
    column = next((strips[name] for name in _INDEX_NAMES if name in strips), None)
    if isinstance(column, Lists):
        triangles = _strips(source, column)
        counts = np.concatenate([counts, np.full(len(triangles), 3)])
        indices = np.concatenate([indices, triangles.reshape(-1)])
        rows = np.concatenate([rows, np.full(len(triangles), -1)])
    return counts, indices, rows


def _whole(source: Source, values: np.ndarray) -> Int[np.ndarray, " C"]:
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values % 1 == 0) & (np.abs(values) < 2**53)).all():
        raise source.unreadable("a face names a vertex by a number that is not whole")
    return values.astype(np.int64)


def _strips(source: Source, column: Lists) -> Int[np.ndarray, "F 3"]:
    """Triangles of strips, which a -1 ends (Stanford's bunny and its kin are stored so)."""
    values = _whole(source, column.values)
    ends = np.zeros(len(values) + 1, bool)
    ends[np.cumsum(column.counts)] = True
    pieces = []
    start = 0
    breaks = np.flatnonzero(ends[1:] | (values == -1))
    for stop in breaks.tolist():
        strip = values[start : stop if values[stop] == -1 else stop + 1]
        pieces.append(strip_triangles(strip))
        start = stop + 1
    return np.concatenate([no_faces(), *pieces])


def _colors(source: Source, table: Table, header: Header, element: str) -> Float[np.ndarray, "N 3"] | None:
    """Whole numbers are of their type's largest, others of 1."""
    for names in _COLORS:
        channels = [table.get(name) for name in names]
        if any(not isinstance(channel, np.ndarray) for channel in channels):
            continue
        declared = next(entry for entry in header.elements if entry.name == element).properties
        kind = next(entry.type for entry in declared if entry.name == names[0])
        values = np.stack([np.asarray(channel) for channel in channels], 1).astype(np.float64)
        if kind[0] in "iu":
            if kind in ("u1", "u2"):
                values /= np.iinfo(kind).max
            elif values.size and values.min() >= 0 and values.max() <= 255:
                values /= 255
            else:
                source.note(f"its {element} colours are not between 0 and 255, and are not used")
                return None
        elif values.size and not (values.min() >= 0 and values.max() <= 1):
            if values.min() >= 0 and values.max() <= 255 and (values % 1 == 0).all():
                source.note("its colours are taken as values of 255")
                return values / 255
            source.note(f"its {element} colours are not between 0 and 1, and are not used")
            return None
        return values
    return None


def _painted(
    source: Source,
    header: Header,
    tables: dict[str, Table],
    part: Part,
    places: Int[np.ndarray, "F 3"],
    counts: Int[np.ndarray, " P"],
    rows: Int[np.ndarray, " P"],
) -> Part:
    """With its texture; else with the colours of its vertices; else with those of its faces."""
    polygon = np.repeat(np.arange(len(counts)), counts)[places[:, 0]]
    names = [comment.split(None, 1)[1] for comment in header.comments if comment.lower().startswith("texturefile ")]
    if names:
        return _textured(source, names, tables, part, places, counts, rows)
    if part.colors is None and (rows >= 0).all():
        colors = _colors(source, tables.get("face", {}), header, "face")
        if colors is not None:
            return by_face(part, colors[rows[polygon]])
    return part


def _textured(
    source: Source,
    names: list[str],
    tables: dict[str, Table],
    part: Part,
    places: Int[np.ndarray, "F 3"],
    counts: Int[np.ndarray, " P"],
    rows: Int[np.ndarray, " P"],
) -> Part:
    """Coordinates of corners (texcoord) or of vertices (s, t); texnumber says which picture where there are several."""
    face, vertex = tables.get("face", {}), tables["vertex"]
    wedges, number = face.get("texcoord"), face.get("texnumber")
    try:
        pictures = [Picture(open_picture(source.beside(name))) for name in names]
        if isinstance(wedges, Lists):
            if not (rows >= 0).all() or not (wedges.counts[rows] == 2 * counts).all():
                raise NoPicture("lacks the coordinates of some faces")
            if len(rows) < len(wedges.counts):
                raise NoPicture("belongs to a file with faces of fewer than three corners")
            uv = np.asarray(wedges.values, np.float64).reshape(-1, 2)[places].reshape(-1, 2)
        else:
            pair = next((pair for pair in _UV_NAMES if all(isinstance(vertex.get(n), np.ndarray) for n in pair)), None)
            if pair is None:
                raise NoPicture("has no texture coordinates")
            uv = np.stack([np.asarray(vertex[name], np.float64) for name in pair], 1)[part.faces].reshape(-1, 2)
        polygon = np.repeat(np.arange(len(counts)), counts)[places[:, 0]]
        which = np.zeros(len(part.faces), np.int64)
        if isinstance(number, np.ndarray):
            which = number[rows[polygon]].astype(np.int64)
        if len(which) and (which.min() < 0 or which.max() >= len(pictures)):
            raise NoPicture("is one of fewer than its faces name")
        colors = np.empty((len(part.faces) * 3, 3))
        for index, picture in enumerate(pictures):
            chosen = np.repeat(which == index, 3)
            colors[chosen] = encoded(picture.linear(uv[chosen] * [1, -1] + [0, 1]))
    except (NoPicture, BadInput) as error:
        reason = error.cause if isinstance(error, BadInput) else f"the texture '{names[0]}' {error}"
        source.note(f"{reason}; the mesh is taken without colours")
        return Part(part.vertices, part.faces)
    return by_corner(part, colors.reshape(-1, 3, 3))
