"""Reading a picture file, whatever it is, into 8-bit sRGB."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from kiss3d_cli.core.errors import BadInput, OutOfMemory
from kiss3d_cli.core.files import open_given
from kiss3d_cli.core.shell import typed
from kiss3d_cli.image.color import find_coding, to_srgb
from kiss3d_cli.image.formats import RESAVE, open_picture

MAX_PIXELS = 100_000_000
MAX_SIDE = 16_384
MIN_SIDE = 32
OPAQUE_SHARE = 0.999
"""An alpha channel that shows at least this share of the picture cuts nothing out."""
FAINT = 12
"""Alpha of 255 below which nothing is seen."""
SHOWN_SHARE = 0.001
"""Share of a frame that must be seen, and differ from the rest of it, for the frame to show something."""
MOST_FRAMES = 200
"""Frames of an animation that are looked at for the first that shows something."""


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
    """Read a picture of any common kind: EXIF rotation applied, colours turned into 8-bit sRGB.

    Of an animation the first frame that shows something, of several pages the first.

    Args:
        path: the file.
        max_pixels: refused above, before any pixel is decoded.
        max_side: refused above, before any pixel is decoded.
        min_side: refused below.

    Raises:
        BadInput: the file can't be read, is no picture, is too large or too small, or is fully transparent.
        Missing: the package that decodes its format is not installed.
        OutOfMemory: it can't be decoded in the memory there is.
    """
    place = str(path)
    _refuse_what_is_no_file(path)
    with warnings.catch_warnings():
        # Pillow's warnings on odd files are not for the user; what matters is checked here.
        warnings.simplefilter("ignore")
        try:
            # The file stays open until the pixels are in: Pillow reads the header alone at first.
            with open_given(path) as file:
                image, head = open_picture(file, place)
                _check_size(image.size, place, max_pixels=max_pixels, max_side=max_side, min_side=min_side)
                return _decode(image, head, place)
        except PermissionError as error:
            hint = "allow it in the file's properties" if os.name == "nt" else typed("chmod", "u+r", path)
            raise BadInput("the picture can't be read: permission denied", place=place, hint=hint) from error
        except MemoryError as error:
            raise OutOfMemory(
                "the picture does not fit in memory", place=place, hint="scale it down to 4096 pixels a side"
            ) from error
        except OSError as error:
            raise BadInput(f"the picture can't be read: {error.strerror or error}", place=place, hint=RESAVE) from error


def load_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a cut-out: 255 on the object. An alpha channel is taken as it is, else what is light is the object.

    Raises:
        BadInput: it can't be read, or shows no object.
        Missing, OutOfMemory: as `load_picture`.
    """
    picture = load_picture(path)
    mask = picture.alpha
    if mask is None:
        mask = np.asarray(Image.fromarray(picture.rgb).convert("L"))
    if not (mask >= 128).any():
        raise BadInput(
            "the mask is empty: nothing in it is white or opaque", place=str(path), hint="paint the object white"
        )
    return mask


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


def _decode(image: Image.Image, head: bytes, place: str) -> Picture:
    notes: list[str] = []
    kind = image.format  # a turned copy has none
    try:
        _choose_frame(image, notes)
        profile = image.info.get("icc_profile")
        image.load()
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many types for broken data
        raise BadInput(
            "the picture is damaged or cut off", place=place, hint="download or save the picture again"
        ) from error
    coding = None if profile else find_coding(image, head, notes)
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block must not stop a picture that decodes
        notes.append("The EXIF block is damaged; the picture is taken as it is stored.")
    color, alpha = _split_alpha(_to_8_bit(image, notes))
    if alpha is not None and kind == "TIFF" and not alpha.any():
        alpha = None  # a spare sample that nobody filled
    rgb = np.asarray(to_srgb(color, profile, coding, notes))
    if alpha is not None:
        if alpha.max() < FAINT:
            raise BadInput(
                "the foreground is empty: every pixel of the picture is transparent",
                place=place,
                hint="save the picture again without transparency, or with the object opaque",
            )
        if _cuts_nothing(alpha):
            alpha = None
    return Picture(rgb, alpha, tuple(notes))


def _cuts_nothing(alpha: UInt8[np.ndarray, "H W"]) -> bool:
    even = int(alpha.max()) - int(alpha.min()) < FAINT  # as faint as it may be, it is so everywhere
    return even or bool((alpha >= 128).mean() >= OPAQUE_SHARE)


def _choose_frame(image: Image.Image, notes: list[str]) -> None:
    """Go to the first frame of an animation that shows something: many begin with an empty one."""
    frames = getattr(image, "n_frames", 1)
    # an MPO is a JPEG with a preview or a second eye behind it: no reason for a note; so are a HEIC's further pictures
    if frames <= 1 or image.format in ("MPO", "HEIF"):
        return
    if image.format == "TIFF":
        notes.append(f"The TIFF file has {frames} pages; the first one is used.")
        image.seek(0)
        return
    chosen = 0
    for index in range(min(frames, MOST_FRAMES)):
        image.seek(index)
        if _shows_something(image):
            chosen = index
            break
    image.seek(chosen)
    which = "the first one is used" if chosen == 0 else f"frame {chosen + 1}, the first that shows something, is used"
    notes.append(f"The {image.format} file has {frames} frames; {which}.")


def _shows_something(image: Image.Image) -> bool:
    small = image.convert("RGBA")
    small.thumbnail((256, 256), Image.Resampling.BOX)
    pixels = np.asarray(small).astype(np.int16)
    seen = pixels[..., 3] >= FAINT
    if seen.mean() < SHOWN_SHARE:
        return False
    if (~seen).mean() >= SHOWN_SHARE:
        return True
    away = np.abs(pixels[..., :3] - np.median(pixels[..., :3], axis=(0, 1))).max(-1)
    return bool((away >= FAINT).mean() >= SHOWN_SHARE)


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
