"""3MF (core specification 1.3, with the production and the materials extension) in metres with y up."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.part import Part, by_corner
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.io.threemf_model import Model, ModelReader, NotUnderstood
from kiss3d_cli.geometry.io.xml import parse_xml, refuse_entities

METRES = {"micron": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "inch": 0.0254, "foot": 0.3048, "meter": 1.0}
_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
_DEEPEST = 64  # components within components
_PIECE = 1 << 20
_UNPACKED_PER_BYTE, _UNPACKED_FREE = 50, 64 << 20  # text packs to a twentieth at most; more is a bomb


@dataclass
class _Package:
    """The files in the archive, and how much was unpacked of them."""

    source: Source
    archive: zipfile.ZipFile
    size: int
    unpacked: int = 0
    models: dict[str, Model] = field(default_factory=dict)

    def pieces(self, name: str) -> Iterator[bytes]:
        """A file's bytes, a piece at a time."""
        try:
            info = self.archive.getinfo(name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.source.unreadable("its archive is packed in an unusual way")
            with self.archive.open(info) as file:
                while piece := file.read(_PIECE):
                    self.unpacked += len(piece)
                    if self.unpacked > _UNPACKED_PER_BYTE * self.size + _UNPACKED_FREE:
                        raise self.source.unreadable("it unpacks to far more than a mesh can")
                    yield piece
        except KeyError as error:
            raise self.source.unreadable(f"'{name[:60]}' is not in it") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
            raise self.source.unreadable("its archive is damaged or encrypted") from error

    def model(self, path: str) -> Model:
        """A model file, read once."""
        name = posixpath.normpath(path).lstrip("/")
        if name not in self.models:
            self.models[name] = _read_model(self, name)
        return self.models[name]


def read_3mf(source: Source) -> list[Part]:
    """Read what a 3MF is to be built of.

    Raises:
        BadInput: damaged, an extension is required that kiss3d does not read, components without end.
    """
    data = source.data()
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise source.unreadable("it is not a ZIP archive") from error
    package = _Package(source, archive, len(data))
    root = package.model(_root_path(package))
    scale = METRES.get(root.unit)
    if scale is None:
        raise source.unreadable(f"its unit '{root.unit[:20]}' is none of 3MF's")
    source.note(f"it is read in metres with y up (the unit of the file is the {root.unit}, its z is up)")
    frame = _Z_UP @ np.diag([scale, scale, scale, 1.0])
    parts: list[Part] = []
    for path, identity, matrix in root.items:
        parts += _placed(package, path or root.name, identity, frame @ matrix, 0)
    if not source.textures or all(part.colors is None for part in parts):
        return parts
    return [part if part.colors is not None else _white(part) for part in parts]


def _white(part: Part) -> Part:
    return Part(part.vertices, part.faces, np.ones((len(part.vertices), 3)))


def _root_path(package: _Package) -> str:
    """The model that the package starts with (Open Packaging Conventions)."""
    tree = parse_xml(package.source, b"".join(package.pieces("_rels/.rels")))
    for relation in tree.iter("Relationship"):
        if relation.get("Type", "").endswith("/3dmodel"):
            return relation.get("Target", "")
    raise package.source.unreadable("it names no model")


def _read_model(package: _Package, name: str) -> Model:
    source, reader = package.source, ModelReader(name)
    tail = b""
    try:
        for piece in package.pieces(name):
            refuse_entities(source, tail + piece)
            before = reader.model.bytes
            reader.feed(piece)
            source.claim(reader.model.bytes - before, 3, "bytes of geometry")
            tail = piece[-16:]
        reader.close()
    except NotUnderstood as error:
        hint = "export it as STL or OBJ" if error.foreign else "open it in a viewer and export it again"
        if error.foreign:
            raise source.refuse(f"it {error}", hint) from error
        raise source.unreadable(str(error), hint) from error
    except expat.ExpatError as error:
        raise source.unreadable(f"its XML is damaged: {error}") from error
    return reader.model


def _placed(package: _Package, path: str, identity: str, matrix: Float[np.ndarray, "4 4"], depth: int) -> list[Part]:
    source, model = package.source, package.model(path)
    if depth > _DEEPEST:
        raise source.unreadable("its components contain each other, or more than 64 of each other")
    if identity not in model.objects:
        raise source.unreadable(f"there is no object {identity[:20]!r} in it")
    found = model.objects[identity]
    source.claim(1, 2000, "components")
    parts: list[Part] = []
    if found.corners:
        vertices = np.array(found.vertices).reshape(-1, 3)
        faces = np.array(found.corners, np.int64).reshape(-1, 3)
        source.claim(len(vertices), 48, "vertices")
        source.claim(len(faces), 48, "faces")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise source.unreadable(f"a face names vertex {faces.max()}, but there are {len(vertices)} vertices")
        part = Part(vertices, faces)
        if source.textures:
            colors = model.corner_colors(found, source)
            part = part if colors is None else by_corner(part, colors)
        parts.append(part.moved(matrix))
    for other, inner, local in found.components:
        parts += _placed(package, other or path, inner, matrix @ local, depth + 1)
    return parts
