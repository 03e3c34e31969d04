"""Headers of weight files: checked before any work, without reading tensors."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.records import parse_json, read_json

Shape = tuple[int, ...]

SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Bytes of one number, by safetensors' name of its type."""
FLOATS = ("F64", "F32", "F16", "BF16")
LARGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no longer one."""
_MOST = 2_000_000
"""Values of a header: ten a tensor; the largest networks have 800 tensors."""
_SNIFFED = 512
_KINDS = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself"),
    (b"PK\x03\x04", "it is a zip archive, or a checkpoint of torch"),
    (b"GGUF", "it is a GGUF file"),
    (b"\x89PNG", "it is a picture"),
    (b"\x1f\x8b", "it is a gzip archive"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<!doctype")


class Header:
    """The tensors of a safetensors file, by name.

    Attributes:
        path: the file.
        shapes: of every tensor.
        dtypes: of every tensor, as safetensors calls them: `F8_E4M3`, `BF16`, `F16`, `F32`...
        parts: the file of every tensor, where there are several; `path` is their index then.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, Shape],
        dtypes: Mapping[str, str],
        parts: Mapping[str, Path] | None = None,
    ) -> None:
        self.path, self.shapes, self.dtypes = path, dict(shapes), dict(dtypes)
        self.parts = dict(parts or {})

    def file_of(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self.parts.get(name, self.path)


def look(path: Path) -> bytes:
    """The first bytes of a file that is there, a file, readable and what its name says as far as these bytes tell.

    Raises:
        Missing: it is none of that; the cause names what it is instead.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _unusable(path, "it is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "it is not a regular file")
        with path.open("rb") as file:
            first = file.read(_SNIFFED)
    except FileNotFoundError:
        where = " (its link leads nowhere)" if path.is_symlink() else ""
        raise _unusable(path, f"there is no such file{where}") from None
    except OSError as error:
        raise _unusable(path, f"it can't be read: {error.strerror or error}") from None
    if not first:
        raise _unusable(path, "it is empty")
    page = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if page.startswith(_PAGES):
        raise _unusable(path, "it is a web page, not the file itself: a server's answer was saved in its place")
    for sign, what in _KINDS:
        if first.startswith(sign) and not (sign[:2] == b"PK" and path.suffix in (".ckpt", ".pt", ".pth", ".bin")):
            raise _unusable(path, what)
    return first


def read_header(path: Path) -> Header:
    """The header of a safetensors file whose bytes are all there.

    Raises:
        Missing: it is not there, another kind of file, damaged, cut short or too long.
    """
    first = look(path)
    size = path.stat().st_size
    length = int.from_bytes(first[:8], "little")
    if size < 8 or (length > size - 8 and length <= LARGEST_HEADER):
        raise _unusable(path, f"it is cut short: it ends within its header, after {size} bytes")
    if length > LARGEST_HEADER:
        raise _unusable(path, "it is not a safetensors file, or its header is damaged")
    with path.open("rb") as file:
        file.seek(8)
        text = file.read(length)
    try:
        header = parse_json(text, _MOST)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise TypeError
        end, shapes, dtypes = 0, {}, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            shape, dtype, (start, stop) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
            if not all(type(side) is int and side >= 0 for side in shape) or start != end:
                raise ValueError
            if stop - start != math.prod(shape) * SIZES.get(dtype, 0) and dtype in SIZES:
                raise ValueError
            end, shapes[name], dtypes[name] = stop, shape, dtype
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _unusable(path, "its header is damaged") from None
    whole = 8 + length + end
    if size < whole:
        raise _unusable(path, f"it is cut short: it has {size:,} of {whole:,} bytes")
    if size > whole:
        raise _unusable(path, f"it is damaged: it has {size:,} bytes instead of {whole:,}")
    return Header(path, shapes, dtypes)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises Missing if there is none."""
    look(path)
    try:
        value = read_json(path)
    except ValueError as error:
        raise _unusable(path, f"the file is damaged: it is no JSON ({' '.join(str(error).split())[:100]})") from None
    except OSError as error:
        raise _unusable(path, f"it can't be read: {error.strerror or error}") from None
    if not isinstance(value, dict):
        raise _unusable(path, "the file is damaged: it holds no JSON object")
    return value


def check_floats(header: Header, names: Mapping[str, str], narrow: bool = False) -> None:
    """Raises Missing if a needed tensor is not stored in a float type.

    Args:
        names: of the stored tensors, by what needs them.
        narrow: whether fp8 will do too.
    """
    allowed = (*FLOATS, "F8_E4M3") if narrow else FLOATS
    wrong = {target: header.dtypes[name] for target, name in names.items() if header.dtypes[name] not in allowed}
    if wrong:
        first, kind = next(iter(wrong.items()))
        more = f" and {len(wrong) - 1} more are" if len(wrong) > 1 else " is"
        raise _unusable(
            header.file_of(names[first]), f"{first}{more} stored in {kind}, which is no type of these weights"
        )


def _unusable(path: Path, cause: str) -> Missing:
    return Missing(cause, place=str(path), hint="kiss3d models verify")
