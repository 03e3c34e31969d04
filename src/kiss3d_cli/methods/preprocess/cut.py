"""From the picture to the object, cut out and centred on white."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.front import front_notes
from kiss3d_cli.image.matting import Matte
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import write_png
from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.preprocess.framing import Framed

Pixels = UInt8[np.ndarray, "H W 3"]


def cut_and_frame(context: Context, settings: Framed, name: str, cut: Callable[[Pixels], Matte]) -> None:
    """An alpha channel wins; without one `cut`, called by this name, finds the object."""
    picture = load_picture(context.inputs["picture"])
    context.warnings.extend(picture.notes)
    alpha = picture.alpha
    if alpha is None:
        context.progress(0.1, name)
        matte = cut(picture.rgb)
        context.warnings.extend(matte.notes)
        alpha = matte.alpha
    context.progress(0.8, "framing")
    framed = frame_foreground(picture.rgb, alpha, size=settings.size, fill=settings.foreground)
    notes = (*framed.notes, *front_notes(framed.mask))
    context.warnings.extend(note for note in notes if note not in context.warnings)
    context.facts["background_removal"] = "alpha channel" if picture.alpha is not None else name
    write_png(context.output / "image.png", framed.rgb)
    write_png(context.output / "image_rgba.png", framed.rgba)
    write_png(context.output / "mask.png", framed.mask)
