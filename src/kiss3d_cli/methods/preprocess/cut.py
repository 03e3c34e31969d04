"""From the picture to the object, cut out and centred on white."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from kiss3d_cli.image.contours import fill_contours
from kiss3d_cli.image.cutting import cut_object, keep_pieces, own_colors, require_shape
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.front import front_notes
from kiss3d_cli.image.matting import Matte
from kiss3d_cli.image.picture import load_mask, load_picture
from kiss3d_cli.image.png import write_png
from kiss3d_cli.image.see_through import make_solid
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.preprocess.framing import Framed

Pixels = UInt8[np.ndarray, "H W 3"]


def cut_and_frame(
    context: Context, settings: Framed, name: str, find: Callable[[Pixels], Matte], *, learned: bool = False
) -> None:
    """A mask of the user's wins, then an alpha channel; else a plain ground's colour decides, or `find`.

    Args:
        name: of `find`, for the record.
        learned: `find` is a network, which is asked on plain grounds too.
    """
    picture = load_picture(context.inputs["picture"])
    notes = list(picture.notes)
    rgb = picture.rgb
    doubts: tuple[str, ...] = ()
    if "mask" in context.inputs:
        how, alpha = "mask", load_mask(context.inputs["mask"])
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
        context.progress(0.1, name)
        cut = cut_object(rgb, find, name=name, keep=settings.keep, contours=settings.contours, learned=learned)
        rgb, alpha, how, doubts = cut.rgb, cut.alpha, cut.how, cut.doubts
        notes += cut.notes
    context.progress(0.8, "framing")
    framed = frame_foreground(rgb, alpha, size=settings.size, fill=settings.foreground, crop=settings.crop)
    context.warnings.extend(dict.fromkeys((*notes, *framed.notes, *front_notes(framed.mask))))
    context.facts["background_removal"] = how
    context.facts["doubtful"] = bool(doubts)
    write_png(context.output / "image.png", framed.rgb)
    write_png(context.output / "image_rgba.png", framed.rgba)
    write_png(context.output / "mask.png", framed.mask)
