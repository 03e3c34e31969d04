"""OFF, the Object File Format of Geomview (http://www.geomview.org/docs/html/OFF.html), as text."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.numbers import NoNumber, parse, plain_text, shown
from kiss3d_cli.geometry.io.part import Part, by_face, no_faces
from kiss3d_cli.geometry.io.polygons import CrossingPolygon, crossing_message, triangulate
from kiss3d_cli.geometry.io.source import Source

_HEADER = re.compile(rb"(ST)?(CN|NC|C|N)?(4)?(n)?OFF(?=\s|\d|$)[ \t]*(BINARY\b)?")
_COUNTS = re.compile(rb"\d+[ \t]+\d+[ \t]+\d+[ \t]*\r?\n")
_COMMENT = re.compile(rb"#[^\n]*")


def read_off(source: Source) -> list[Part]:
    """Read an OFF with vertex colours (COFF), normals (NOFF) or texture coordinates (STOFF), and face colours.

    The counts may follow the word OFF in its own line, also without a blank, as in ModelNet.

    Raises:
        BadInput: it is cut off, goes on, is binary, has other than three dimensions, or is not an OFF.
    """
    try:
        text = _COMMENT.sub(b"", plain_text(source.data())).strip()
    except NoNumber as error:
        raise source.unreadable(str(error), "save it as text, or as PLY") from error
    if _COUNTS.match(text):  # the word may be missing
        text = b"OFF\n" + text
    header = _HEADER.match(text)
    if header is None:
        raise source.unreadable("its first word is not OFF")
    texture, letters, four, n, binary = header.groups(b"")
    if binary or four or n:
        kind = "is binary" if binary else "has points of other than three dimensions"
        raise source.refuse(f"this OFF {kind}, which kiss3d does not read", "export it as PLY")
    lines = [line for line in text[header.end() :].split(b"\n") if line.strip()]
    counts = _row(source, lines[0] if lines else b"", np.int64)
    if not 2 <= len(counts) <= 3 or counts.min() < 0:
        raise source.unreadable("the counts of vertices and faces do not follow the word OFF")
    vertex_count, face_count = int(counts[0]), int(counts[1])
    if len(lines) - 1 != vertex_count + face_count:
        declared = f"{vertex_count} vertices and {face_count} faces"
        raise source.unreadable(f"it declares {declared}, and holds {len(lines) - 1} lines of them")
    normals, more = 3 * (b"N" in letters), 2 * bool(texture)
    # MeshLab's NCOFF has the colour before the normal; in Geomview's CNOFF it comes after it
    place = None if b"C" not in letters else 3 if letters == b"NC" else 3 + normals
    points, colors = _vertices(source, lines[1 : 1 + vertex_count], normals + more, place)
    return [_part(source, points, colors, lines[1 + vertex_count :])]


def _row(source: Source, line: bytes, dtype: type = np.float64) -> np.ndarray:
    try:
        return parse(line, dtype)
    except NoNumber as error:
        raise source.unreadable(f"this line is not a row of numbers: {shown(line)}") from error


def _vertices(
    source: Source, lines: list[bytes], more: int, place: int | None
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """Positions and colours, which are at a place of each line; `more` other numbers are there too."""
    widths = {len(line.split()) for line in lines[:1]}
    width = widths.pop() if widths else 3
    allowed = [3 + more + 3, 3 + more + 4] if place is not None else [3 + more]
    values = _row(source, b"\n".join(lines))
    if width not in allowed or len(values) != width * len(lines) or any(len(line.split()) != width for line in lines):
        raise source.unreadable(f"its vertices do not have {' or '.join(map(str, allowed))} numbers each")
    table = values.reshape(-1, width)
    if place is None:
        return table[:, :3], None
    whole = b"." not in b" ".join(lines[0].split()[place : place + 3]) if lines else True
    return table[:, :3], _of_255(table[:, place : place + 3], whole)


def _of_255(colors: Float[np.ndarray, "N 3"], whole: bool) -> Float[np.ndarray, "N 3"]:
    """Whole numbers are of 255, numbers with a point are of 1."""
    return (colors / 255 if whole or colors.max(initial=0) > 1 else colors).clip(0, 1)


def _part(
    source: Source, points: Float[np.ndarray, "N 3"], colors: Float[np.ndarray, "N 3"] | None, lines: list[bytes]
) -> Part:
    if not lines:
        return Part(points, no_faces(), colors)
    values = _row(source, b"\n".join(lines))
    widths = np.array([len(line.split()) for line in lines])
    starts = np.cumsum(widths) - widths
    if widths.sum() != len(values):
        raise source.unreadable("its faces are not rows of numbers")
    values = np.where(np.isfinite(values) & (np.abs(values) < 2**53), values, -0.5)  # which is no count and no vertex
    counts = values[starts].astype(np.int64)
    extra = widths - 1 - counts
    if (counts < 1).any() or (values[starts] != counts).any() or not np.isin(extra, (0, 1, 3, 4)).all():
        row = int(np.argmax((counts < 1) | (values[starts] != counts) | ~np.isin(extra, (0, 1, 3, 4))))
        raise source.unreadable(f"face {row + 1} is not a count and that many vertices: {shown(lines[row])}")
    kept = counts >= 3
    if not kept.all():
        source.note_short(int((~kept).sum()))
    rows = np.flatnonzero(kept)
    offsets = np.repeat(starts[rows] + 1 - (np.cumsum(counts[rows]) - counts[rows]), counts[rows])
    places = offsets + np.arange(int(counts[rows].sum()))
    corners = values[places]
    if len(corners) and (corners.min() < 0 or corners.max() >= len(points) or (corners % 1 != 0).any()):
        cause = f"a face names a vertex that is not there: there are {len(points)}, counted from 0"
        raise source.refuse(cause, "the file is damaged: export the mesh again")
    indices = corners.astype(np.int64)
    try:
        triangles = triangulate(points, counts[rows], indices)
    except CrossingPolygon as error:
        raise source.refuse(*crossing_message(error, lambda number: f"face {rows[number] + 1}")) from error
    part = Part(points, indices[triangles], colors)
    if not source.textures or colors is not None or not (extra[rows] >= 3).all():
        return part
    polygon = np.repeat(np.arange(len(rows)), counts[rows])[triangles[:, 0]]
    first = (starts + 1 + counts)[rows]
    whole = b"." not in b" ".join(lines[rows[0]].split()[1 + counts[rows[0]] :]) if len(rows) else True
    painted = _of_255(values[first[:, None] + np.arange(3)], whole)
    return by_face(part, painted[polygon])
