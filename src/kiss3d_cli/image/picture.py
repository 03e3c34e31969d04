"""Reading a picture file, whatever it is, into 8-bit sRGB."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps

from kiss3d_cli.core.errors import BadInput, OutOfMemory
from kiss3d_cli.core.shell import typed

MAX_PIXELS = 100_000_000
MAX_SIDE = 16_384
MIN_SIDE = 32
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000")
"""Raster formats alone: Pillow would hand an EPS to an external interpreter."""
OPAQUE_SHARE = 0.999
"""An alpha channel that shows at least this share of the picture cuts nothing out."""
_RESAVE = "open it in a picture program, save it as PNG or JPEG, and give that file"


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright, sRGB-encoded.

    Attributes:
        rgb: (H, W, 3), not multiplied by alpha.
        alpha: (H, W), 255 opaque; None where the file has none or where it cuts nothing out.
        notes: sentences on what was changed or left out, for the user.
    """

    rgb: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None
    notes: tuple[str, ...] = ()


def load_picture(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE, min_side: int = MIN_SIDE
) -> Picture:
    """Read a picture of any common kind: EXIF rotation applied, colours turned into 8-bit sRGB, first frame alone.

    Args:
        path: the file.
        max_pixels: refused above, before any pixel is decoded.
        max_side: refused above, before any pixel is decoded.
        min_side: refused below.

    Raises:
        BadInput: the file can't be read, is no picture, is too large or too small, or is fully transparent.
        OutOfMemory: it can't be decoded in the memory there is.
    """
    place = str(path)
    _refuse_what_is_no_file(path)
    with warnings.catch_warnings():
        # Pillow's warnings on odd files are not for the user; what matters is checked here.
        warnings.simplefilter("ignore")
        try:
            # The file stays open until the pixels are in: Pillow reads the header alone at first.
            with path.open("rb") as file:
                image = _open(file, place)
                _check_size(image.size, place, max_pixels=max_pixels, max_side=max_side, min_side=min_side)
                return _decode(image, place)
        except PermissionError as error:
            hint = "allow it in the file's properties" if os.name == "nt" else typed("chmod", "u+r", path)
            raise BadInput("the picture can't be read: permission denied", place=place, hint=hint) from error
        except MemoryError as error:
            raise OutOfMemory(
                "the picture does not fit in memory", place=place, hint="scale it down to 4096 pixels a side"
            ) from error
        except OSError as error:
            raise BadInput(
                f"the picture can't be read: {error.strerror or error}", place=place, hint=_RESAVE
            ) from error


def _refuse_what_is_no_file(path: Path) -> None:
    place = str(path)
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
        size = path.stat().st_size if is_file else 0
    except PermissionError as error:
        raise BadInput(
            "the picture's folder can't be read: permission denied", place=place, hint="check the folder's permissions"
        ) from error
    except (OSError, ValueError) as error:
        raise BadInput(
            "this can't be the name of a file", place=place, hint="check the spelling of the path"
        ) from error
    if not exists:
        raise BadInput("there is no such file", place=place, hint="check the spelling of the path")
    if is_folder:
        raise BadInput("this is a folder, not a picture", place=place, hint="give one picture file inside it")
    if not is_file:
        raise BadInput("this is not a regular file", place=place, hint="copy the picture to a file and give that")
    if size == 0:
        raise BadInput("the file is empty (0 bytes)", place=place, hint="download or save the picture again")


def _open(file: io.BufferedReader, place: str) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadInput(
            "the picture is too large: it has over 100 million pixels",
            place=place,
            hint="scale it down to 4096 pixels a side or less",
        ) from error
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise many types for broken headers
        raise BadInput("the file is not a picture in a known format", place=place, hint=_RESAVE) from error


def _check_size(size: tuple[int, int], place: str, *, max_pixels: int, max_side: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels or max(size) > max_side:
        raise BadInput(
            f"the picture is too large: {width} x {height} pixels, where at most {max_side} a side and "
            f"{max_pixels / 1e6:g} million in all are read",
            place=place,
            hint="scale it down to 4096 pixels a side or less",
        )
    if min(size) < min_side:
        raise BadInput(
            f"the picture is too small: {width} x {height} pixels, where at least {min_side} a side are needed",
            place=place,
            hint="give a picture of 512 pixels a side or more",
        )


def _decode(image: Image.Image, place: str) -> Picture:
    notes: list[str] = []
    try:
        frames = getattr(image, "n_frames", 1)
        # An MPO is a JPEG with a preview or a second eye behind it: no reason for a note.
        if frames > 1 and image.format != "MPO":
            kind = "pages" if image.format == "TIFF" else "frames"
            notes.append(f"The {image.format} file has {frames} {kind}; the first one is used.")
            image.seek(0)
        profile = image.info.get("icc_profile")
        image.load()
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many types for broken data
        raise BadInput(
            "the picture is damaged or cut off", place=place, hint="download or save the picture again"
        ) from error
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block must not stop a picture that decodes
        notes.append("The EXIF block is damaged; the picture is taken as it is stored.")
    color, alpha = _split_alpha(_to_8_bit(image, notes))
    rgb = np.asarray(_to_srgb(color, profile, notes))
    if alpha is not None:
        if not (alpha >= 128).any():
            raise BadInput(
                "the foreground is empty: every pixel of the picture is transparent",
                place=place,
                hint="save the picture again without transparency, or with the object opaque",
            )
        if (alpha >= 128).mean() >= OPAQUE_SHARE:
            alpha = None
    return Picture(rgb, alpha, tuple(notes))


def _to_8_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey pictures of more than 8 bits; Pillow itself brings the other 16-bit pictures down."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        wide = image.mode != "I" or values.max() > 255
        grey = ((values.clip(0, 65535) + 128) // 257 if wide else values.clip(0, 255)).astype(np.uint8)
        if wide:
            notes.append("The picture has 16 bits a channel; 8 are used.")
        key = image.info.get("transparency")
        if isinstance(key, int):
            visible = np.where(values == key, 0, 255).astype(np.uint8)
            return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(visible)])
        return Image.fromarray(grey)
    if image.mode == "F":
        notes.append("The picture has floating-point values; they are cut off at 0 and 1.")
        values = np.nan_to_num(np.asarray(image), nan=0.0)
        return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    return image


def _split_alpha(image: Image.Image) -> tuple[Image.Image, UInt8[np.ndarray, "H W"] | None]:
    """The picture without alpha, in the colour space that it is stored in, and the alpha."""
    if image.has_transparency_data:
        # convert() turns palette and colour-key transparency into alpha as well
        grey = image.mode in ("1", "L", "LA", "La")
        full = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = np.asarray(full.getchannel("A"))
        return full.convert("RGB").convert("L") if grey else full.convert("RGB"), alpha
    if image.mode in ("1", "P", "RGBX"):
        return image.convert("L" if image.mode == "1" else "RGB"), None
    return image, None


def _to_srgb(color: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" in ImageCms.getProfileDescription(source).lower():
                return color.convert("RGB")
            converted = ImageCms.profileToProfile(color, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("The colour profile does not fit the picture; it is ignored.")
            return color.convert("RGB")
    if color.mode == "CMYK":
        notes.append("The picture is CMYK without a colour profile; its colours are approximate.")
    return color.convert("RGB")
