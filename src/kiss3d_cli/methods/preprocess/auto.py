"""The best segmentation method that is available."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.preprocess.grabcut import GrabCut, GrabCutSettings

WITH_NETWORK, WITHOUT = "rembg", "grabcut"


class Auto(Method[GrabCutSettings]):
    """IS-Net where its weights and its package are there, else GrabCut; the run's record says which it was."""

    stage, name, version = "preprocess", "auto", 2
    settings = GrabCutSettings
    writes = ()
    help = "uses `rembg` if it is available, else `grabcut`"

    def models(self, settings: GrabCutSettings) -> tuple[str, ...]:
        return ("isnet",)

    def instead(self, is_there: Callable[[str], bool]) -> str:
        return WITH_NETWORK if is_there(WITH_NETWORK) else WITHOUT

    def cost(self, settings: GrabCutSettings, around: Surroundings) -> Cost:
        return GrabCut().cost(settings, around)

    @contextmanager
    def open(self, settings: GrabCutSettings, machine: Machine) -> Iterator[Opened]:
        raise AssertionError("another method stands in for this one before a run begins")
        yield
