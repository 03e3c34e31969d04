"""The bundle: four views over four normal maps, from which the mesh is made."""

from __future__ import annotations

import shutil

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.stage import Context
from kiss3d_cli.image.bundle import Bundle, join_bundle, load_bundle
from kiss3d_cli.image.png import write_png


def reference(context: Context) -> None:
    """The reference bundle as it is."""
    shutil.copyfile(context.inputs["reference/reference_bundle.png"], context.output / "bundle.png")


def file(context: Context) -> None:
    """A bundle made elsewhere, checked and repaired."""
    bundle = load_bundle(context.inputs["bundle"])
    context.warnings.extend(bundle.notes)
    write_png(context.output / "bundle.png", join_bundle(bundle))


def drawn(context: Context) -> Bundle:
    """The bundle of this stage, for those after it.

    Raises:
        BadInput: Flux drew no bundle: the hint is how to get another one, not how to write one.
    """
    try:
        return load_bundle(context.inputs["bundle/bundle.png"])
    except BadInput as error:
        error.hint = (
            "look at it; then resume with --set seed=NUMBER for another, or, if Flux drew it, without Flux: "
            "--set bundle.method=reference"
        )
        raise
