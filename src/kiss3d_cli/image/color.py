"""Conversion to sRGB by the ICC profile, or by the primaries and the transfer curve that the format states."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms

Curve = Callable[[Float[np.ndarray, "*S"]], Float[np.ndarray, "*S"]]

DIFFUSE_WHITE = 203.0
"""Luminance in cd/m2 of a white sheet in high dynamic range (ITU-R BT.2408); what is brighter is cut off."""
EXACT = 1
"""Levels of 255 up to which a conversion counts as rounding, and the stored values are taken as they are."""
SRGB_GAMMA = 0.45455
"""The `gAMA` that stands for sRGB, within 5 %: writers mean sRGB by it, not a power."""

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Chromaticities (x, y) of red, green, blue and white."""

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_BT709: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_SMPTE170: Primaries = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
PRIMARIES: dict[int, Primaries] = {
    1: _BT709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _SMPTE170,
    7: _SMPTE170,
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
"""ColourPrimaries of ITU-T H.273, table 2."""


@dataclass(frozen=True)
class Coding:
    """The colour encoding of stored values.

    Attributes:
        primaries: chromaticities.
        decode: from a stored value in [0, 1] to light, where 1 is diffuse white; may exceed 1.
        narrow: the values use 16 to 235 of 255.
        bright: light above diffuse white can occur, and is cut off.
    """

    primaries: Primaries
    decode: Curve
    narrow: bool = False
    bright: bool = False


def srgb_decode(values: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """From sRGB-encoded values to light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)


def srgb_encode(light: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """The inverse of `srgb_decode`; light is cut off at 0 and 1."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def power(exponent: float) -> Curve:
    return lambda values: np.asarray(np.maximum(values, 0) ** exponent)


def _bt709_decode(values: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    return np.where(values < 0.081, values / 4.5, ((np.maximum(values, 0) + 0.099) / 1.099) ** (1 / 0.45))


def _pq_decode(values: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """SMPTE ST 2084, relative to diffuse white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.maximum(values, 0) ** (1 / m2)
    return np.asarray((np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * 10_000 / DIFFUSE_WHITE)


def _hlg_decode(values: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """ITU-R BT.2100 HLG for a display of 1,000 cd/m2, its system gamma taken channel by channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return np.asarray(scene**1.2 * 1_000 / DIFFUSE_WHITE)


CURVES: dict[int, Curve] = {
    1: _bt709_decode,
    4: power(2.2),
    5: power(2.8),
    6: _bt709_decode,
    8: power(1.0),
    13: srgb_decode,
    14: _bt709_decode,
    15: _bt709_decode,
    16: _pq_decode,
    17: lambda values: np.asarray(np.maximum(values, 0) ** 2.6 * 52.37 / 48),
    18: _hlg_decode,
}
"""TransferCharacteristics of ITU-T H.273, table 3."""
_HIGH_DYNAMIC_RANGE = (16, 18)


def code_points(primaries: int, transfer: int, narrow: bool = False) -> Coding | None:
    """A coding by its code points (ITU-T H.273); None for one that is unknown or has no fixed meaning."""
    if primaries not in PRIMARIES or transfer not in CURVES:
        return None
    return Coding(PRIMARIES[primaries], CURVES[transfer], narrow, transfer in _HIGH_DYNAMIC_RANGE)


def find_coding(image: Image.Image, head: bytes, notes: list[str]) -> Coding | None:
    """What a file without an ICC profile says of its colours: `cICP`, `gAMA` and `cHRM` of a PNG, `colr` of an AVIF or
    HEIC, the colour space of Exif (DCF option files are Adobe RGB, interoperability index R03). None for sRGB.

    Args:
        image: opened and loaded: a PNG may have its Exif behind its pixels.
        head: the beginning of the file, with all that comes before the pixels of a PNG.
        notes: a sentence is added if the coding is not known.
    """
    points = _png_code_points(head) if head.startswith(b"\x89PNG") else _box_code_points(head)
    if points is not None:
        coding = code_points(*points)
        unspecified = 2 in points[:2]
        if coding is None and not unspecified:
            notes.append(f"The colour coding {points[0]}/{points[1]} of the picture is not known; it is taken as sRGB.")
        return coding
    if "srgb" in image.info:  # a PNG's own word
        return None
    if image.format == "PNG" and "gamma" in image.info:
        return _gamma_coding(image.info["gamma"], image.info.get("chromaticity"))
    return Coding(ADOBE_RGB, power(563 / 256)) if _is_adobe_rgb(image) else None


def _png_code_points(head: bytes) -> tuple[int, int, bool] | None:
    """The `cICP` chunk (PNG, third edition, 11.3.2.6); it wins over every other colour chunk."""
    at = 8
    while at + 12 <= len(head):
        length, kind = struct.unpack(">I4s", head[at : at + 8])
        if kind == b"cICP" and length == 4 and at + 12 <= len(head):
            primaries, transfer, matrix, full = head[at + 8 : at + 12]
            return (primaries, transfer, not full) if matrix == 0 else None
        if kind in (b"IDAT", b"IEND"):
            break
        at += 12 + length
    return None


def _box_code_points(head: bytes) -> tuple[int, int, bool] | None:
    """The `colr` box of type `nclx` (ISO/IEC 14496-12); the decoder has brought its range to the full one."""
    at = head.find(b"colrnclx") if head[4:8] == b"ftyp" else -1
    if at < 0 or at + 12 > len(head):
        return None
    primaries, transfer = struct.unpack(">HH", head[at + 8 : at + 12])
    return primaries, transfer, False


def _gamma_coding(gamma: object, chromaticity: object) -> Coding | None:
    if not isinstance(gamma, float) or not 0.05 < gamma < 20:
        return None
    primaries = _BT709
    if isinstance(chromaticity, tuple) and len(chromaticity) == 8:
        white, *colors = ((float(chromaticity[index]), float(chromaticity[index + 1])) for index in range(0, 8, 2))
        primaries = (colors[0], colors[1], colors[2], white)
    usual = bool(np.allclose(primaries, _BT709, atol=0.005))
    if abs(gamma / SRGB_GAMMA - 1) < 0.05:
        return None if usual else Coding(primaries, srgb_decode)
    return Coding(_BT709 if usual else primaries, power(1 / gamma))


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        exif = image.getexif()
        details = exif.get_ifd(0x8769)
        space = details.get(0xA001)
        if space == 2:  # in no standard, and in many files
            return True
        index = exif.get_ifd(0xA005).get(1, "") if 0xA005 in details else ""
        return space in (0xFFFF, None) and str(index).strip("\0 ").upper() == "R03"
    except Exception:  # a broken EXIF block must not stop a picture that decodes
        return False


def to_srgb(color: Image.Image, profile: bytes | None, coding: Coding | None, notes: list[str]) -> Image.Image:
    """An RGB picture in sRGB.

    Args:
        color: without alpha, in the colour space that it is stored in.
        profile: its ICC profile; wins over `coding`.
        coding: None for sRGB.
        notes: sentences for the user are added.
    """
    if profile:
        try:
            return _by_profile(color, profile)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("The colour profile does not fit the picture; it is ignored.")
            return color.convert("RGB")
    if color.mode == "CMYK":
        notes.append("The picture is CMYK without a colour profile; its colours are approximate.")
        return color.convert("RGB")
    if coding is None:
        return color.convert("RGB")
    if coding.bright:
        notes.append("The picture is high dynamic range; what is brighter than white is cut off.")
    return Image.fromarray(convert(np.asarray(color.convert("RGB")), coding))


def _by_profile(color: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() == "RGB":
        color = color.convert("RGB")  # grey with the profile of a colour picture
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), color.mode, "RGB")
    if color.mode == "RGB":
        # whatever a profile is called, its curves decide; where they are sRGB's, conversion would only round
        probe = _probe()
        through = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
        if np.abs(through.astype(int) - probe).max() <= EXACT:
            return color
    converted = ImageCms.applyTransform(color, transform)
    return color.convert("RGB") if converted is None else converted


def _probe() -> UInt8[np.ndarray, "N 16 3"]:
    """Greys in steps of one level, and a coarse grid of colours."""
    steps = np.linspace(0, 255, 8).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 16, 3)
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(-1, 16, 1), 3, axis=2)
    return np.concatenate([grey, grid])


def convert(rgb: UInt8[np.ndarray, "H W 3"], coding: Coding) -> UInt8[np.ndarray, "H W 3"]:
    """8-bit pixels of another coding as sRGB; colours outside sRGB are cut off at its border."""
    levels = np.arange(256) / 255
    if coding.narrow:
        levels = ((levels * 255 - 16) / 219).clip(0, 1)
    curve = coding.decode(levels).astype(np.float32)
    matrix = between(coding.primaries, _BT709).astype(np.float32)
    fine = np.linspace(0, 1, 4096)
    table = (srgb_encode(fine**2) * 255).round().astype(np.uint8)  # over the root of light: even where it is dark
    result = np.empty_like(rgb)
    rows = max(1, 2_000_000 // max(1, rgb.shape[1]))
    for start in range(0, len(rgb), rows):  # a large picture in floating point takes more memory than it must
        light = (curve[rgb[start : start + rows]] @ matrix.T).clip(0, 1)
        result[start : start + rows] = table[(np.sqrt(light) * 4095).round().astype(np.int32)]
    return result


def between(source: Primaries, target: Primaries) -> Float[np.ndarray, "3 3"]:
    """The matrix that takes linear light from one set of primaries to another, white to white (Bradford)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    cones = [bradford @ _xyz(primaries[3]) for primaries in (source, target)]
    adapt = np.linalg.inv(bradford) @ np.diag(cones[1] / cones[0]) @ bradford
    return np.asarray(np.linalg.inv(_to_xyz(target)) @ adapt @ _to_xyz(source))


def _xyz(chromaticity: tuple[float, float]) -> Float[np.ndarray, " 3"]:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(primaries: Primaries) -> Float[np.ndarray, "3 3"]:
    columns = np.stack([_xyz(primary) for primary in primaries[:3]], 1)
    return np.asarray(columns * np.linalg.solve(columns, _xyz(primaries[3])))
