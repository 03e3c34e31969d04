"""The bundle as Flux redraws the reference bundle under its control."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Opened
from kiss3d_cli.methods.bundle.flux_settings import CONTROLNET, Asked, Drawing, OfFlux, drawing_cost, drawing_models
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.shared import Share

MODES = ("canny", "tile", "depth", "blur", "gray", "lq")
"""What can be derived from a bundle; a pose can't."""


class FluxSettings(Drawing):
    controls: tuple[str, ...] = ("tile",)
    """ControlNet-Union modes that act together: canny, tile, depth, blur, gray, lq."""
    control_scales: tuple[Annotated[float, Field(ge=0, le=4)], ...] = (0.6,)
    """One scale for each control."""
    control_starts: tuple[Share, ...] = (0.0,)
    """Start of each control, as a share of the schedule."""
    control_ends: tuple[Share, ...] = (0.65,)
    """End of each control, as a share of the schedule."""

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The controls, each with its scale, start and end."""
        return tuple(zip(self.controls, self.control_scales, self.control_starts, self.control_ends, strict=True))

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        for name in self.controls:
            if name not in MODES:
                close = difflib.get_close_matches(name, MODES, n=1)
                suggestion = f" (did you mean '{close[0]}'?)" if close else ""
                yield f"controls: there is no control '{name}'{suggestion}; there are {', '.join(MODES)}"
        for field in ("control_scales", "control_starts", "control_ends"):
            given = len(getattr(self, field))
            if given != len(self.controls):
                yield f"{field}: {given} for {len(self.controls)} controls; give one for each"
        for name, start, end in zip(self.controls, self.control_starts, self.control_ends, strict=False):
            if start >= end:
                yield f"control_ends: the control '{name}' would end at {end:g}, and not set in before {start:g}"


class Flux(OfFlux[FluxSettings]):
    """Image to image: noise is added to the reference bundle, and Flux takes it away under the controls."""

    stage, name, version = "bundle", "flux", 2
    settings = FluxSettings
    reads = ("reference/reference_bundle.png", "prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)
    help = "refines it (image-to-image)"
    default = True

    def models(self, settings: FluxSettings) -> tuple[str, ...]:
        return (
            *drawing_models(settings),
            *((CONTROLNET,) if settings.controls else ()),
        )

    def cost(self, settings: FluxSettings, around: Surroundings) -> Cost:
        return drawing_cost(settings, around, settings.strength, settings.asked)

    @contextmanager
    def open(self, settings: FluxSettings, machine: Machine) -> Iterator[Opened]:
        with redrawing(settings, machine, settings.asked, settings.strength) as work:
            yield work


@contextmanager
def redrawing(settings: Drawing, machine: Machine, asked: Sequence[Asked], strength: float) -> Iterator[Opened]:
    """Flux at work on reference bundles, under these controls and at this strength."""
    from kiss3d_cli.image.conditions import fit_bundle
    from kiss3d_cli.image.png import read_png
    from kiss3d_cli.methods.bundle.drawing import Studio

    with Studio(settings, machine, strength) as studio:

        def work(context: Context) -> None:
            reference = fit_bundle(read_png(context.inputs["reference/reference_bundle.png"]), settings.tile)
            studio.draw(context, reference, asked)

        yield work
