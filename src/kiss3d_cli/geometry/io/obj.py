"""Wavefront OBJ: polygons with their vertices as the file has them.

Vertices and faces are read a few megabytes at a time with array operations, all other lines one by one. A statement
that is not understood is refused by its line: it could be geometry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from kiss3d_cli.geometry.io.mtl import Materials
from kiss3d_cli.geometry.io.numbers import NoNumber, lines_of, parse, plain_text, shown, token_starts, words_per_line
from kiss3d_cli.geometry.io.part import Part, no_faces, split_by_corner
from kiss3d_cli.geometry.io.polygons import CrossingPolygon, crossing_message, triangulate
from kiss3d_cli.geometry.io.source import Source

_INDENT = re.compile(rb"^[ \t\v\f]+", re.MULTILINE)
_COMMENT = re.compile(rb"#[^\n]*")
# statements without a meaning for the polygons (specification of OBJ 3.0: grouping, display, free-form attributes)
_IGNORED = {
    b"g", b"o", b"s", b"mg", b"vp", b"bevel", b"c_interp", b"d_interp", b"lod", b"shadow_obj", b"trace_obj", b"ctech",
    b"stech", b"maplib", b"usemap", b"cstype", b"deg", b"bmat", b"step", b"parm", b"trim", b"hole", b"scrv", b"sp",
    b"end", b"con", b"curv2",
}  # fmt: skip
_LEFT_OUT = {b"l": "lines", b"p": "points", b"curv": "curves"}
_V, _VT, _F, _OTHER, _NOTHING = range(5)


@dataclass
class _Found:
    """What a file has, piece by piece."""

    points: list[Float[np.ndarray, "N 3"]] = field(default_factory=list)
    colors: list[Float[np.ndarray, "N 3"] | None] = field(default_factory=list)  # NaN where a vertex has none
    uvs: list[Float[np.ndarray, "N 2"]] = field(default_factory=list)
    counts: list[Int[np.ndarray, " P"]] = field(default_factory=list)  # corners of every polygon,
    lines: list[Int[np.ndarray, " P"]] = field(default_factory=list)  # where it is,
    materials: list[Int[np.ndarray, " P"]] = field(default_factory=list)  # and its material
    corners: list[Int[np.ndarray, " C"]] = field(default_factory=list)  # vertices
    corner_uvs: list[Int[np.ndarray, " C"]] = field(default_factory=list)  # texture coordinates, -1 for none
    names: dict[str, int] = field(default_factory=lambda: {"": 0})
    libraries: list[str] = field(default_factory=list)
    vertex_count: int = 0
    uv_count: int = 0
    material: int = 0


def read_obj(source: Source) -> list[Part]:
    """Read an OBJ.

    Raises:
        BadInput: something in it is not understood, or is no polygon with a definite surface.
    """
    try:
        text = plain_text(source.data())
    except NoNumber as error:
        raise source.unreadable(str(error)) from error
    if b"\\" in text and re.search(rb"\\[ \t]*\n", text):
        text = _joined_lines(text)
    found = _Found()
    for first_line, piece in lines_of(text):
        _read_piece(source, found, first_line, piece)
    del text
    return _parts(source, found)


def _joined_lines(text: bytes) -> bytes:
    """Lines that end in a backslash with the next; as many empty ones follow, so that line numbers stay right."""
    done, current, empty = [], b"", 0
    for line in text.split(b"\n"):
        bare = line.rstrip()
        if bare.endswith(b"\\") and not (current + bare).lstrip().startswith(b"#"):
            current += bare[:-1] + b" "
            empty += 1
            continue
        done.append(current + line)
        done += [b""] * empty
        current, empty = b"", 0
    return b"\n".join([*done, current])


def _read_piece(source: Source, found: _Found, first_line: int, piece: bytes) -> None:
    if piece[0] in b" \t\v\f" or any(b"\n" + blank in piece for blank in (b" ", b"\t", b"\v", b"\f")):
        piece = _INDENT.sub(b"", piece)
    if not piece.endswith(b"\n"):
        piece += b"\n"
    data = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    kinds = _kinds(data, starts)
    changes = np.flatnonzero(np.diff(kinds)) + 1
    texts: dict[int, list[bytes]] = {_V: [], _VT: [], _F: []}
    material = np.full(len(kinds), -1)
    material[0] = found.material
    for start, end in zip([0, *changes.tolist()], [*changes.tolist(), len(kinds)], strict=True):
        kind = int(kinds[start])
        if kind in texts:
            texts[kind].append(piece[starts[start] : ends[end - 1] + 1])
        elif kind == _OTHER:
            for line in range(start, end):
                _read_statement(source, found, first_line + line, piece[starts[line] : ends[line]])
                material[line] = found.material
    lines = {kind: np.flatnonzero(kinds == kind) for kind in texts}
    vertices, uvs = (found.vertex_count + np.cumsum(kinds == _V), found.uv_count + np.cumsum(kinds == _VT))
    found.vertex_count, found.uv_count = int(vertices[-1]), int(uvs[-1])
    if texts[_V]:
        _read_vertices(source, found, b"".join(texts[_V]), first_line + lines[_V])
    if texts[_VT] and source.textures:
        _read_uvs(source, found, b"".join(texts[_VT]), first_line + lines[_VT])
    if texts[_F]:
        last = np.maximum.accumulate(np.where(material >= 0, np.arange(len(kinds)), 0))
        here = lines[_F]
        found.materials.append(material[last[here]])
        _read_faces(source, found, b"".join(texts[_F]), first_line + here, vertices[here], uvs[here])


def _kinds(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(L,) what every line is, by its first letters."""
    padded = np.concatenate([data, np.full(2, 10, np.uint8)])
    first, second, third = padded[starts], padded[starts + 1], padded[starts + 2]
    kinds = np.full(len(starts), _OTHER, np.int8)
    kinds[(first == ord("v")) & (second <= 32)] = _V
    kinds[(first == ord("f")) & (second <= 32)] = _F
    kinds[(first == ord("v")) & (second == ord("t")) & (third <= 32)] = _VT
    kinds[(first == ord("v")) & (second == ord("n")) & (third <= 32)] = _NOTHING
    kinds[(first == ord("#")) | (first == ord("\n"))] = _NOTHING
    return kinds


def _read_statement(source: Source, found: _Found, number: int, line: bytes) -> None:
    words = line.split(None, 1)
    if not words:
        return
    statement, rest = words[0], words[1].decode("utf-8", "replace").strip() if len(words) > 1 else ""
    if statement == b"usemtl":
        found.material = found.names.setdefault(rest, len(found.names))
    elif statement == b"mtllib":
        if rest not in found.libraries:
            found.libraries.append(rest)
    elif statement in _LEFT_OUT:
        source.note(f"its {_LEFT_OUT[statement]} are left out: only faces are compared")
    elif statement == b"surf":
        hint = "export polygons instead of NURBS or Bezier surfaces"
        raise source.refuse(f"line {number} is a free-form surface, which kiss3d does not read", hint)
    elif statement not in _IGNORED:
        hint = "if the line has no meaning for the shape, take it out; else " + "export the mesh again"
        raise source.unreadable(f"line {number} is not understood: {shown(line)}", hint)


def _numbers(
    source: Source, text: bytes, letters: bytes, lines: Int[np.ndarray, " L"], allowed: tuple[int, ...]
) -> tuple[Float[np.ndarray, " C"], Int[np.ndarray, " L"]]:
    """The numbers of lines that start with the same letters, and how many each has."""
    whole = text
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    bare = text.replace(letters, b" " * len(letters))
    counts = words_per_line(np.frombuffer(bare, np.uint8))
    wrong = ~np.isin(counts, allowed)
    try:
        if wrong.any() or text.count(letters) != len(lines):
            raise NoNumber
        values = parse(bare)
        if len(values) != counts.sum():
            raise NoNumber
    except NoNumber as error:
        raise _bad_line(source, whole, letters, lines, wrong, "is not a row of numbers") from error
    return values, counts


def _bad_line(
    source: Source, text: bytes, letters: bytes, lines: np.ndarray, wrong: np.ndarray, reason: str
) -> Exception:
    """The refusal of the first line that is wrong."""
    rows = text.split(b"\n")
    for number, row, bad in zip(lines.tolist(), rows, wrong.tolist(), strict=False):
        words = row.split(b"#")[0].replace(b"/", b" ").split()
        try:
            parse(b" ".join(words[1:]))
            bad = bad or letters in b" ".join(words[1:])
        except NoNumber:
            bad = True
        if bad:
            return source.unreadable(f"line {number} {reason}: {shown(row)}")
    return source.unreadable(f"something between lines {lines[0]} and {lines[-1]} {reason}")


def _read_vertices(source: Source, found: _Found, text: bytes, lines: Int[np.ndarray, " L"]) -> None:
    """x y z, with a weight w = 1 that has no meaning for polygons, or with r g b (MeshLab, Blender, ZBrush)."""
    values, counts = _numbers(source, text, b"v", lines, (3, 4, 6))
    if (counts == 3).all():
        found.points.append(values.reshape(-1, 3))
        found.colors.append(None)
        return
    starts = np.cumsum(counts) - counts
    weighted = counts == 4
    odd = weighted & (values[np.minimum(starts + 3, len(values) - 1)] != 1)
    if odd.any():
        number = lines[odd.argmax()]
        cause = f"line {number} has a vertex with a weight, of which programs do not agree what it means"
        raise source.refuse(cause, "write x y z alone, or export the mesh again")
    found.points.append(values[starts[:, None] + np.arange(3)])
    colors = np.full((len(lines), 3), np.nan)
    colored = counts == 6
    colors[colored] = values[starts[colored, None] + np.arange(3, 6)]
    found.colors.append(colors)


def _read_uvs(source: Source, found: _Found, text: bytes, lines: Int[np.ndarray, " L"]) -> None:
    values, counts = _numbers(source, text, b"vt", lines, (1, 2, 3))
    starts = np.cumsum(counts) - counts
    uv = np.zeros((len(lines), 2))
    uv[:, 0] = values[starts]
    has_v = counts > 1
    uv[has_v, 1] = values[starts[has_v] + 1]
    found.uvs.append(uv)


def _read_faces(
    source: Source,
    found: _Found,
    text: bytes,
    lines: Int[np.ndarray, " P"],
    vertices: Int[np.ndarray, " P"],
    uvs: Int[np.ndarray, " P"],
) -> None:
    """v, v/vt, v//vn or v/vt/vn; `vertices` and `uvs` say how many there are up to each line."""
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    wrong = np.zeros(len(lines), bool)
    bare = text.replace(b"f", b" ")
    counts = words_per_line(np.frombuffer(bare, np.uint8)).astype(np.int64)
    try:
        if text.count(b"f") != len(lines):
            raise NoNumber
        references = _references(bare, int(counts.sum()))
    except NoNumber as error:
        raise _bad_line(source, text, b"f", lines, wrong, "is not a face") from error
    corner_line = np.repeat(np.arange(len(counts)), counts)
    indices = _absolute(source, references[:, 0], corner_line, vertices, lines, "vertex")
    corner_uvs = np.zeros(0, np.int64)
    if source.textures:
        given = references[:, 1] != 0
        numbers = np.where(given, references[:, 1], 1)
        corner_uvs = np.where(given, _absolute(source, numbers, corner_line, uvs, lines, "texture coordinate"), -1)
    short = counts < 3
    if short.any():
        source.note_short(int(short.sum()), f" (line {lines[short][0]})")
        keep = ~short[corner_line]
        counts, lines, indices = counts[~short], lines[~short], indices[keep]
        corner_uvs = corner_uvs[keep] if source.textures else corner_uvs
        found.materials[-1] = found.materials[-1][~short]
    found.counts.append(counts)
    found.lines.append(lines)
    found.corners.append(indices)
    found.corner_uvs.append(corner_uvs)


def _references(text: bytes, words: int) -> Int[np.ndarray, "C 2"]:
    """Vertex and texture coordinate of every corner as written; 0 where the corner has none."""
    if b"/" not in text:
        values = parse(text, np.int64)
        if len(values) != words:
            raise NoNumber
        return np.stack([values, np.zeros_like(values)], 1)
    data = np.frombuffer(text, np.uint8)
    starts, blank = token_starts(data)
    slash = data == ord("/")
    values = parse(text.replace(b"/", b" "), np.int64)
    begins = ~(blank | slash)
    begins[1:] &= (blank | slash)[:-1]
    places = np.flatnonzero(begins)
    if len(places) != len(values):
        raise NoNumber
    slashes = np.cumsum(slash, dtype=np.int32)
    first = np.flatnonzero(starts)
    word = np.cumsum(starts, dtype=np.int32)[places] - 1
    slot = slashes[places] - (slashes[first] - slash[first])[word]
    if slot.max(initial=0) > 2:
        raise NoNumber
    references = np.zeros((words, 3), np.int64)
    references[word, slot] = values
    return references[:, :2]


def _absolute(
    source: Source,
    numbers: Int[np.ndarray, " C"],
    corner_line: Int[np.ndarray, " C"],
    so_far: Int[np.ndarray, " P"],
    lines: Int[np.ndarray, " P"],
    what: str,
) -> Int[np.ndarray, " C"]:
    """Counted from 0; a negative number counts back from the line it stands in."""
    if numbers.min(initial=1) > 0:
        return numbers - 1
    zero = numbers == 0
    if zero.any():
        line = lines[corner_line[zero.argmax()]]
        cause = f"the face in line {line} names {what} 0, but OBJ counts from 1"
        raise source.refuse(cause, "add 1 to every number in the faces, or export the mesh again")
    indices = np.where(numbers > 0, numbers - 1, so_far[corner_line] + numbers)
    if indices.min() < 0:
        line = lines[corner_line[indices.argmin()]]
        raise source.unreadable(f"the face in line {line} counts back to before the first {what}")
    return indices


def _parts(source: Source, found: _Found) -> list[Part]:
    if not found.points:
        return []
    colors = _given_colors(source, found)
    points = np.concatenate(found.points)
    found.points.clear()
    if not found.counts:
        return [Part(points, no_faces(), colors)]
    counts, lines, corners = (np.concatenate(pieces) for pieces in (found.counts, found.lines, found.corners))
    found.corners.clear()
    if len(corners) and corners.max() >= len(points):
        line = lines[np.searchsorted(np.cumsum(counts), corners.argmax(), "right")]
        cause = f"the face in line {line} names vertex {corners.max() + 1}, but there are {len(points)} vertices"
        raise source.refuse(cause, "the file is damaged: export the mesh again")
    try:
        places = triangulate(points, counts, corners)
    except CrossingPolygon as error:
        raise source.refuse(*crossing_message(error, lambda number: f"the face in line {lines[number]}")) from error
    faces = corners[places]
    if not source.textures or len(found.names) == 1:
        return [Part(points, faces, _if_whole(source, colors, faces))]
    return [_painted(source, found, Part(points, faces, colors), places, counts)]


def _given_colors(source: Source, found: _Found) -> Float[np.ndarray, "N 3"] | None:
    """Vertex colours in [0, 1], with NaN where there are none; None if there are none at all."""
    if all(piece is None or np.isnan(piece).all() for piece in found.colors):
        return None
    pairs = zip(found.points, found.colors, strict=True)
    colors = np.concatenate([np.full((len(p), 3), np.nan) if c is None else c for p, c in pairs])
    top, bottom = np.nanmax(colors), np.nanmin(colors)
    if bottom >= 0 and top <= 1:
        return colors
    if bottom >= 0 and top <= 255 and (np.nan_to_num(colors) % 1 == 0).all():
        source.note("its vertex colours are taken as values of 255")
        return colors / 255
    source.note("its vertex colours are not between 0 and 1, and are not used")
    return None


def _if_whole(
    source: Source, colors: Float[np.ndarray, "N 3"] | None, faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "N 3"] | None:
    """The colours if every vertex of a face has one."""
    if colors is None or not np.isnan(colors).any():
        return colors
    used = np.zeros(len(colors), bool)
    used[faces] = True
    if np.isnan(colors[used]).any():
        source.note("only some of its vertices have colours, so none are used")
        return None
    return np.nan_to_num(colors)


def _painted(
    source: Source, found: _Found, part: Part, places: Int[np.ndarray, "F 3"], counts: Int[np.ndarray, " P"]
) -> Part:
    """With the colours of its materials; a vertex is split where it has several texture coordinates or materials."""
    polygon = np.repeat(np.arange(len(counts)), counts)[places[:, 0]]
    material = np.concatenate(found.materials)[polygon]
    corner_uv = np.concatenate(found.corner_uvs)[places]
    uvs = np.concatenate([*found.uvs, np.full((1, 2), np.nan)])
    if corner_uv.max(initial=-1) >= len(uvs) - 1:
        cause = f"a face names texture coordinate {corner_uv.max() + 1}, but there are {len(uvs) - 1}"
        raise source.refuse(cause, "the file is damaged: export the mesh again")
    libraries = Materials(source, found.libraries)
    names = list(found.names)
    keys = (corner_uv + 1) * len(names) + material[:, None]
    vertex, key, faces = split_by_corner(part.faces, keys)
    own = None if part.colors is None else part.colors[vertex]
    painted = libraries.colors(names, key % len(names), uvs[key // len(names) - 1], own)
    if painted is None or np.isnan(painted).all():
        return Part(part.vertices, part.faces)
    colors = _if_whole(source, painted, faces)
    return Part(part.vertices, part.faces) if colors is None else Part(part.vertices[vertex], faces, colors)
