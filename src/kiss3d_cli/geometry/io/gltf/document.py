"""The JSON of a glTF file and its buffers; every value is looked at before it is used."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.source import Source

_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_VALUE = 64  # bytes that a value of the JSON takes in memory, about
_COMPRESSED = ("EXT_meshopt_compression", "KHR_meshopt_compression")
# extensions without a meaning for shape and colour, or whose meaning is read elsewhere in this package
_UNDERSTOOD = {
    *_COMPRESSED, "EXT_mesh_features", "EXT_mesh_gpu_instancing", "EXT_mesh_manifold",
    "EXT_structural_metadata", "FB_ngon_encoding", "KHR_draco_mesh_compression", "KHR_mesh_quantization",
    "KHR_node_hoverability", "KHR_node_selectability", "KHR_node_visibility", "KHR_animation_pointer",
    "KHR_xmp", "KHR_xmp_json_ld", "MSFT_texture_dds", "MSFT_packing_normalRoughnessMetallic",
    "MSFT_packing_occlusionRoughnessMetallic", "KHR_accessor_float64",
}  # fmt: skip
_UNDERSTOOD_KINDS = (
    "KHR_materials_", "KHR_texture_", "KHR_lights_", "KHR_audio", "EXT_texture_", "EXT_lights_", "EXT_materials_",
    "ADOBE_materials_",
)  # fmt: skip


@dataclass
class Document:
    """A glTF file.

    Attributes:
        source: the file.
        root: its JSON.
        binary: the binary chunk of a GLB, else None.
    """

    source: Source
    root: dict[str, Any]
    binary: bytes | None
    _buffers: dict[int, bytes] = field(default_factory=dict)
    _views: dict[int, bytes] = field(default_factory=dict)

    def wrong(self, what: str) -> Exception:
        return self.source.unreadable(what)

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """One of the top-level arrays' objects."""
        entries = self.root.get(kind, [])
        if type(index) is not int or not isinstance(entries, list) or not 0 <= index < len(entries):
            raise self.wrong(f"it names {kind}[{str(index)[:20]}], which is not there")
        if not isinstance(entries[index], dict):
            raise self.wrong(f"{kind}[{index}] is not an object")
        return entries[index]

    def count(self, kind: str) -> int:
        entries = self.root.get(kind, [])
        if not isinstance(entries, list):
            raise self.wrong(f"'{kind}' is not an array")
        return len(entries)

    def object(self, parent: dict[str, Any], name: str) -> dict[str, Any]:
        """A member that is an object; empty if it is not there."""
        value = parent.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(f"'{name}' is not an object")
        return value

    def array(self, parent: dict[str, Any], name: str) -> list[Any]:
        """A member that is an array; empty if it is not there."""
        value = parent.get(name, [])
        if not isinstance(value, list):
            raise self.wrong(f"'{name}' is not an array")
        return value

    def integer(self, parent: dict[str, Any], name: str, default: int | None = None) -> int:
        """A member that is a whole number, 0 or more."""
        value = parent.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value < 1 << 53:
            raise self.wrong(f"'{name}' is not a whole number")
        return value

    def numbers(self, parent: dict[str, Any], name: str, default: list[float]) -> Float[np.ndarray, " N"]:
        """A member that is an array of as many numbers as the default."""
        value = parent.get(name, default)
        if (
            isinstance(value, list)
            and len(value) == len(default)
            and all(type(number) in (int, float) and abs(number) < 1e300 for number in value)
        ):
            return np.array(value, np.float64)
        raise self.wrong(f"'{name}' is not {len(default)} numbers")

    def extension(self, parent: dict[str, Any], name: str) -> dict[str, Any] | None:
        """An object's extension of that name, or None."""
        extensions = self.object(parent, "extensions")
        return self.object(extensions, name) if name in extensions else None

    def buffer(self, index: Any) -> bytes:
        """The bytes of a buffer, as long as it declares or longer."""
        entry = self.entry("buffers", index)
        if index not in self._buffers:
            length, uri = self.integer(entry, "byteLength"), entry.get("uri")
            if uri is None and index == 0 and self.binary is not None:
                data = self.binary
            elif isinstance(uri, str):
                data = self.resource(uri)
            else:
                raise self.wrong(f"buffers[{index}] has no data")
            if len(data) < length:
                raise self.wrong(f"buffers[{index}] declares {length} bytes, and has {len(data)}: it is cut off")
            self._buffers[index] = data
        return self._buffers[index]

    def resource(self, uri: str) -> bytes:
        """What a URI names: data inside of it, or a file beside this one."""
        if not uri.startswith("data:"):
            return self.source.beside(uri, percent=True)
        head, comma, body = uri.partition(",")
        if not comma:
            raise self.wrong("a data URI has no data")
        if not head.endswith(";base64"):
            return unquote_to_bytes(body)
        plain = unquote_to_bytes(body) if "%" in body else body.encode("ascii", "replace")
        try:
            return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        except binascii.Error as error:
            raise self.wrong("a data URI is not base64") from error

    def view(self, index: Any) -> tuple[memoryview, int | None]:
        """A buffer view's bytes, and the distance of its elements if it says one."""
        entry = self.entry("bufferViews", index)
        data = self._unpacked(index, entry)
        if data is None:
            data = self.slice(entry, f"bufferViews[{index}]")
        return data, self.integer(entry, "byteStride") if "byteStride" in entry else None

    def _unpacked(self, index: int, entry: dict[str, Any]) -> memoryview | None:
        """The content of a compressed view; None if it is not, or is there without compression too."""
        for name in _COMPRESSED:
            extension = self.extension(entry, name)
            if extension is None or (name not in self.array(self.root, "extensionsRequired") and self._is_there(entry)):
                continue
            if index not in self._views:
                from kiss3d_cli.geometry.io.gltf.codecs import unpack_meshopt

                self._views[index] = unpack_meshopt(self, entry, extension, name)
            return memoryview(self._views[index])
        return None

    def _is_there(self, view: dict[str, Any]) -> bool:
        """Whether a view's own buffer, which a compressed one need not have, has data."""
        index = view.get("buffer")
        return "uri" in self.entry("buffers", index) or (index == 0 and self.binary is not None)

    def slice(self, entry: dict[str, Any], name: str) -> memoryview:
        """The part of a buffer that a view, or its extension, names."""
        offset, length = self.integer(entry, "byteOffset", 0), self.integer(entry, "byteLength")
        data = self.buffer(entry.get("buffer"))
        if offset + length > len(data):
            raise self.wrong(f"{name} goes past the end of its buffer")
        return memoryview(data)[offset : offset + length]


def open_document(source: Source) -> Document:
    """A GLB or a GLTF, by its first bytes.

    Raises:
        BadInput: it is not glTF 2.0, is damaged, or needs an extension that kiss3d does not read.
    """
    data = source.data()
    text, binary = _chunks(source, data) if data[:4] == b"glTF" else (data, None)
    text = text.removeprefix(b"\xef\xbb\xbf")
    source.claim(text.count(b",") + text.count(b"[") + text.count(b"{"), _VALUE, "values in its JSON")
    try:
        # Not the reader of records: other programs write names twice and NaN into what nobody here reads. The count
        # of values is claimed above, and `Document` checks the type and range of each that is used.
        root = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise source.unreadable("its JSON is damaged") from error
    if not isinstance(root, dict):
        raise source.unreadable("its JSON is not an object")
    document = Document(source, root, binary)
    version = str(document.object(root, "asset").get("version", "none"))
    if not version.startswith("2."):
        cause = f"its glTF version is {version[:20]}, and kiss3d reads 2.0"
        raise source.refuse(cause, "convert it to glTF 2.0 (import it in Blender and export it as GLB)")
    for name in document.array(root, "extensionsRequired"):
        if not isinstance(name, str):
            raise document.wrong("'extensionsRequired' is not an array of names")
        if name not in _UNDERSTOOD and not name.startswith(_UNDERSTOOD_KINDS):
            cause = f"it requires the glTF extension {name[:60]}, which kiss3d does not read"
            raise source.refuse(cause, "export it without that extension")
    return document


def _chunks(source: Source, data: bytes) -> tuple[bytes, bytes | None]:
    if len(data) < 20:
        raise source.unreadable("it is cut off")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise source.refuse(f"it is GLB version {version}, and kiss3d reads version 2", "convert it to glTF 2.0")
    if length > len(data):
        raise source.unreadable(f"it declares {length} bytes, and has {len(data)}: it is cut off")
    chunks: dict[int, bytes] = {}
    place = 12
    while place + 8 <= length:
        size, kind = struct.unpack_from("<II", data, place)
        if place + 8 + size > length:
            raise source.unreadable("a chunk goes past its end")
        chunks.setdefault(kind, data[place + 8 : place + 8 + size])
        if place == 12 and kind != _JSON_CHUNK:
            break
        place += 8 + size
    if _JSON_CHUNK not in chunks:
        raise source.unreadable("it does not start with JSON")
    return chunks[_JSON_CHUNK], chunks.get(_BINARY_CHUNK)
