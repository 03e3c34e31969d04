"""From the picture to the object, cut out and centred on white."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from kiss3d_cli.core.stage import Context
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.front import front_notes
from kiss3d_cli.image.matting import Matte, cut_out, require_foreground
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import write_png

NO_OBJECT = "give a picture with a transparent background, or use --set preprocess.method=grabcut"


def grabcut(context: Context) -> None:
    """An alpha channel wins; without one GrabCut finds the object."""
    _preprocess(context, "GrabCut", lambda rgb: cut_out(rgb, seed=context.settings["seed"]))


def rembg(context: Context) -> None:
    """An alpha channel wins; without one IS-Net finds the object."""

    def cut(rgb: UInt8[np.ndarray, "H W 3"]) -> Matte:
        from kiss3d_cli.models.isnet import matte

        alpha = matte(context.models["isnet"], rgb)
        require_foreground(alpha, NO_OBJECT)
        return Matte(alpha)

    _preprocess(context, "IS-Net", cut)


def _preprocess(context: Context, name: str, cut: Callable[[UInt8[np.ndarray, "H W 3"]], Matte]) -> None:
    picture = load_picture(context.inputs["picture"])
    context.warnings.extend(picture.notes)
    alpha = picture.alpha
    if alpha is None:
        context.progress(0.1, name)
        matte = cut(picture.rgb)
        context.warnings.extend(matte.notes)
        alpha = matte.alpha
    context.progress(0.8, "framing")
    framed = frame_foreground(
        picture.rgb, alpha, size=context.settings["preprocess.size"], fill=context.settings["preprocess.foreground"]
    )
    notes = (*framed.notes, *front_notes(framed.mask))
    context.warnings.extend(note for note in notes if note not in context.warnings)
    context.facts["background_removal"] = "alpha channel" if picture.alpha is not None else name
    write_png(context.output / "image.png", framed.rgb)
    write_png(context.output / "image_rgba.png", framed.rgba)
    write_png(context.output / "mask.png", framed.mask)
