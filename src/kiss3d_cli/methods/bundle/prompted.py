"""What Flux draws from the prompt alone, without a reference bundle and its control."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kiss3d_cli.methods.base import Context, Machine, Opened
from kiss3d_cli.methods.bundle.flux_settings import Drawing, OfFlux, drawing_cost, drawing_models
from kiss3d_cli.methods.cost import Cost, Surroundings

if TYPE_CHECKING:
    from kiss3d_cli.methods.bundle.drawing import Picture


class Prompted(OfFlux[Drawing]):
    """A bundle drawn from the prompt; its routes differ in what they start from."""

    stage = "bundle"
    settings = Drawing
    reads = ("prompt/prompt.safetensors", "prompt/redux.safetensors")
    writes = ("bundle.png",)

    def models(self, settings: Drawing) -> tuple[str, ...]:
        return drawing_models(settings)

    def cost(self, settings: Drawing, around: Surroundings) -> Cost:
        return drawing_cost(settings, around, self.share(settings))

    @abstractmethod
    def share(self, settings: Drawing) -> float:
        """Of the schedule, how much is run."""

    @abstractmethod
    def start(self, settings: Drawing, context: Context) -> Picture | None:
        """What noise is added to; None for noise alone."""

    @contextmanager
    def open(self, settings: Drawing, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.bundle.drawing import Studio

        with Studio(settings, machine, self.share(settings)) as studio:
            yield lambda context: studio.draw(context, self.start(settings, context))
