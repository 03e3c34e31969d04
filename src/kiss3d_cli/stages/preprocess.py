"""From the picture to the object, cut out and centred on white."""

from __future__ import annotations

from kiss3d_cli.core.stage import Context
from kiss3d_cli.imaging.framing import frame_foreground
from kiss3d_cli.imaging.matting import cut_out
from kiss3d_cli.imaging.picture import load_picture
from kiss3d_cli.imaging.png import write_png


def grabcut(context: Context) -> None:
    """An alpha channel wins; without one GrabCut finds the object."""
    picture = load_picture(context.inputs["picture"])
    context.warnings.extend(picture.notes)
    alpha = picture.alpha
    if alpha is None:
        context.progress(0.1, "GrabCut")
        matte = cut_out(picture.rgb, seed=context.settings["seed"])
        context.warnings.extend(matte.notes)
        alpha = matte.alpha
    context.progress(0.8, "framing")
    framed = frame_foreground(
        picture.rgb, alpha, size=context.settings["preprocess.size"], fill=context.settings["preprocess.foreground"]
    )
    context.warnings.extend(note for note in framed.notes if note not in context.warnings)
    context.facts["background_removal"] = "alpha channel" if picture.alpha is not None else "GrabCut"
    write_png(context.output / "image.png", framed.rgb)
    write_png(context.output / "image_rgba.png", framed.rgba)
    write_png(context.output / "mask.png", framed.mask)
