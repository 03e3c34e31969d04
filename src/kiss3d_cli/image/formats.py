"""Opening a picture file by its content: which formats there are, and what Pillow alone would read wrongly."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, features

from kiss3d_cli.core.errors import BadInput, Missing

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000")
"""Raster formats alone: Pillow would hand an EPS to an external interpreter."""
SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
    "TGA": ".tga",
    "AVIF": ".avif",
    "JPEG2000": ".jp2",
    "HEIF": ".heic",
}
HEAD = 1 << 18
"""Bytes read to tell formats apart; the metadata before the pixels of a PNG and the boxes of a HEIC lie within."""
RESAVE = "open it in a picture program, save it as PNG or JPEG, and give that file"

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
_AVIF_BRANDS = {b"avif", b"avis"}
_RAW_STARTS = {
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
    b"\0MRM": "MRW",
    b"FOVb": "X3F",
    b"II\x1a\0\0\0HEAPCCDR": "CRW",
}
_NEW_SUBFILE, _PHOTOMETRIC, _STRIPS, _SAMPLES, _SUB_IFDS, _EXTRA, _DNG = 254, 262, 273, 277, 330, 338, 50706
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_UNASSOCIATED_ALPHA = 2


def open_picture(file: io.BufferedReader, place: str) -> tuple[Image.Image, bytes]:
    """Open a picture without decoding it.

    Returns:
        The picture, and the beginning of the file (up to `HEAD` bytes).

    Raises:
        BadInput: no picture of a known format, or camera raw.
        Missing: the package that decodes the format is not installed.
    """
    head = file.read(HEAD)
    file.seek(0)
    if raw := camera_raw(head, file):
        raise BadInput(
            f"the file is camera raw ({raw}), which has to be developed first: only its preview could be read",
            place=place,
            hint="export it as JPEG, PNG or TIFF from the camera's program, darktable or RawTherapee, and give that",
        )
    formats: tuple[str, ...] = FORMATS
    if _is_heif(head):
        _register_heif(place)
        formats = (*FORMATS, "HEIF")
    file.seek(0)
    try:
        return Image.open(_with_alpha(file, head), formats=formats), head
    except Image.DecompressionBombError as error:
        raise BadInput(
            "the picture is too large: it has over 100 million pixels",
            place=place,
            hint="scale it down to 4096 pixels a side or less",
        ) from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise many types for broken headers
        if _brands(head) & _AVIF_BRANDS and not features.check("avif"):
            raise Missing(
                "the file is AVIF, which this installation of Pillow can't decode",
                place=place,
                hint="pip install --upgrade pillow, or save it as PNG or JPEG",
            ) from error
        raise BadInput("the file is not a picture in a known format", place=place, hint=RESAVE) from error


def suffix_of(path: Path) -> str:
    """The suffix that goes with a picture's content, whatever it is called; its own if the content is not known."""
    try:
        with path.open("rb") as file:
            image, _head = open_picture(file, str(path))
            return SUFFIXES[str(image.format)]
    except Exception:  # the same file is read and refused with reasons elsewhere
        return path.suffix.lower()


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12), none for any other file."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), 256)
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _is_heif(head: bytes) -> bool:
    brands = _brands(head)
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


def _register_heif(place: str) -> None:
    if find_spec("pillow_heif") is None:
        raise Missing(
            "the file is HEIC, which pillow-heif decodes, and that is not installed",
            place=place,
            hint="pip install 'kiss3d[heic]', or save it as PNG or JPEG",
        )
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)


def camera_raw(head: bytes, file: io.BufferedReader) -> str | None:
    """The kind of camera raw that a file is, None if it is none. Most are TIFFs whose first picture is a preview."""
    for start, name in _RAW_STARTS.items():
        if head.startswith(start):
            return name
    if b"crx " in _brands(head):
        return "CR3"
    if head[:4] in (b"II*\0", b"MM\0*"):
        if head[8:10] == b"CR":
            return "CR2"
        for tags in _tiff_folders(file):
            if _DNG in tags:
                return "DNG"
            if tags.get(_PHOTOMETRIC, (0,))[0] in (_COLOR_FILTER_ARRAY, _LINEAR_RAW):
                return "a TIFF with the sensor's values"
    return None


def _tiff_folders(file: io.BufferedReader, most: int = 32) -> Iterator[dict[int, tuple[int, ...]]]:
    """Tags with whole numbers of every image file directory of a TIFF (TIFF 6.0, section 2), sub-directories too."""
    file.seek(0)
    start = file.read(8)
    order = "<" if start[:2] == b"II" else ">"
    waiting: list[int] = [struct.unpack(order + "I", start[4:8])[0]]
    seen: set[int] = set()
    while waiting and len(seen) < most:
        at = waiting.pop()
        if at in seen or at == 0:
            continue
        seen.add(at)
        file.seek(at)
        count = file.read(2)
        if len(count) < 2:
            continue
        block = file.read(12 * struct.unpack(order + "H", count)[0] + 4)
        tags: dict[int, tuple[int, ...]] = {}
        for entry in range(0, len(block) - 4 - 11, 12):
            tag, kind, number, value = struct.unpack(order + "HHI4s", block[entry : entry + 12])
            letter = {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind)
            if letter is None or not 0 < number <= 64:
                continue
            size = struct.calcsize(order + letter) * number
            data = value[:size]
            if size > 4:
                file.seek(struct.unpack(order + "I", value)[0])
                data = file.read(size)
            if len(data) == size:
                tags[tag] = struct.unpack(f"{order}{number}{letter}", data)
        yield tags
        waiting += list(tags.get(_SUB_IFDS, ()))
        if len(block) >= 4:
            waiting.append(struct.unpack(order + "I", block[-4:])[0])


def _with_alpha(file: io.BufferedReader, head: bytes) -> io.BufferedReader | io.BytesIO:
    """The file, or a copy in which an RGB or grey TIFF's one extra sample of unspecified meaning is called alpha.

    Programs write ExtraSamples = 0 for an alpha channel that they do not interpret; Pillow drops such a channel.
    """
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return file
    order = "<" if head[:2] == b"II" else ">"
    folder = next(_tiff_folders(file), {})
    file.seek(0)
    colors = {0: 1, 1: 1, 2: 3}.get(folder.get(_PHOTOMETRIC, (-1,))[0])
    if colors is None or folder.get(_SAMPLES) != (colors + 1,) or folder.get(_EXTRA) != (0,):
        return file
    data = bytearray(file.read())
    at = struct.unpack(order + "I", data[4:8])[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack(order + "H", data[at : at + 2])[0], 12):
        tag, kind = struct.unpack(order + "HH", data[entry : entry + 4])
        if tag == _EXTRA:
            data[entry + 8 : entry + 12] = struct.pack(
                order + ("HH" if kind == 3 else "I"), *((_UNASSOCIATED_ALPHA, 0) if kind == 3 else (2,))
            )
    return io.BytesIO(bytes(data))
