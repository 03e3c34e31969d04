"""Segmentation of the object, centred on white."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.records import write_json
from kiss3d_cli.image.contours import fill_contours
from kiss3d_cli.image.cutting import cut_object, keep_pieces, own_colors, require_shape
from kiss3d_cli.image.framing import Framed as FramedPicture
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.front import front_notes
from kiss3d_cli.image.matting import Matte
from kiss3d_cli.image.picture import load_mask, load_picture
from kiss3d_cli.image.png import read_png, write_png
from kiss3d_cli.image.see_through import make_solid
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.preprocess.framing import SIDES, WINDOW, Framed

Pixels = UInt8[np.ndarray, "H W 3"]
SAME = 1.0
"""Mean difference of two cut-out pictures, of 255, below which they are one: saved again as JPEG they differ by 0.5."""


@dataclass(frozen=True)
class _Cut:
    """A picture cut out and framed.

    Attributes:
        how: by what the object was told from its background.
        notes: sentences for the user.
        doubtful: another way of cutting would say something else.
    """

    framed: FramedPicture
    how: str
    notes: tuple[str, ...]
    doubtful: bool


def cut_and_frame(
    context: Context, settings: Framed, name: str, find: Callable[[Pixels], Matte], *, learned: bool = False
) -> None:
    """The picture, and each of its other sides that was given, by itself.

    Args:
        name: of `find`, for the record.
        learned: `find` is a network, which is asked on plain grounds too.
    """
    given = [side for side in SIDES if side in context.inputs]
    step = 1 / (1 + len(given))
    cut = _cut(
        context.inputs["picture"],
        context.inputs.get("mask"),
        settings,
        lambda: context.progress(0.1 * step, name),
        name,
        find,
        learned,
    )
    context.progress(0.8 * step, "framing")
    context.warnings.extend(dict.fromkeys((*cut.notes, *front_notes(cut.framed.mask))))
    context.facts["background_removal"] = cut.how
    context.facts["doubtful"] = cut.doubtful
    _write(context.output, "", cut.framed)
    window = dict(zip(("left", "top", "side"), cut.framed.window, strict=True))
    (context.output / WINDOW).write_bytes(write_json(window))
    for number, side in enumerate(given, 1):
        context.progress(number * step, f"the {side} picture")
        try:
            cut = _cut(context.inputs[side], None, settings, lambda: None, name, find, learned)
        except BadInput as error:
            error.place = f"--{side}"
            raise
        context.warnings.extend(f"In the {side} picture: {note}" for note in dict.fromkeys(cut.notes))
        context.facts[f"background_removal_{side}"] = cut.how
        _write(context.output, f"{side}_", cut.framed)
    context.warnings.extend(_same(context, given))


def _cut(
    path: Path,
    mask: Path | None,
    settings: Framed,
    finding: Callable[[], None],
    name: str,
    find: Callable[[Pixels], Matte],
    learned: bool,
) -> _Cut:
    """A mask of the user's wins, then an alpha channel; else a plain ground's colour decides, or `find`."""
    picture = load_picture(path)
    notes = list(picture.notes)
    rgb = picture.rgb
    doubts: tuple[str, ...] = ()
    if mask is not None:
        how, alpha = "mask", load_mask(mask)
        require_shape(alpha, rgb, "--mask")
        alpha, left_out = keep_pieces(alpha, "largest" if settings.keep == "largest" else "everything")
        notes += left_out
        rgb = own_colors(rgb, alpha)
    elif picture.alpha is not None:
        how = "alpha channel"
        solid = make_solid(rgb, picture.alpha)
        alpha, left_out = keep_pieces(solid.alpha, "largest" if settings.keep == "largest" else "everything")
        notes += [*solid.notes, *left_out]
        filled = fill_contours(alpha >= 128, always=True) if settings.contours == "fill" else None
        if filled is not None:
            alpha = np.maximum(alpha, filled.mask * np.uint8(255))
    else:
        finding()
        cut = cut_object(rgb, find, name=name, keep=settings.keep, contours=settings.contours, learned=learned)
        rgb, alpha, how, doubts = cut.rgb, cut.alpha, cut.how, cut.doubts
        notes += cut.notes
    framed = frame_foreground(rgb, alpha, size=settings.size, fill=settings.foreground, crop=settings.crop)
    return _Cut(framed, how, (*notes, *framed.notes), bool(doubts))


def _write(folder: Path, prefix: str, framed: FramedPicture) -> None:
    write_png(folder / f"{prefix}image.png", framed.rgb)
    write_png(folder / f"{prefix}image_rgba.png", framed.rgba)
    write_png(folder / f"{prefix}mask.png", framed.mask)


def _same(context: Context, given: list[str]) -> Iterator[str]:
    """A sentence for every picture that was given twice, told by what is shown, not by the file."""
    before: dict[str, np.ndarray] = {}
    for prefix, name in {"": "front", **{f"{side}_": side for side in given}}.items():
        shown = read_png(context.output / f"{prefix}image_rgba.png").astype(np.float32)
        twin = next((other for other, pixels in before.items() if np.abs(shown - pixels).mean() < SAME), None)
        if twin is not None:
            yield f"The {name} picture shows the same as the {twin} picture; if that is not meant, give another."
        before[name] = shown
