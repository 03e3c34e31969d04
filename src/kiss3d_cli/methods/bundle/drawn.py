"""The bundle, for the stages after it: four views over four normal maps, from which the mesh is made."""

from __future__ import annotations

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.image.bundle import Bundle, load_bundle
from kiss3d_cli.methods.base import Context


def drawn(context: Context) -> Bundle:
    """The bundle of this run.

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
