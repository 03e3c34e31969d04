"""The mesh by the large reconstruction model (pass 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened, once
from kiss3d_cli.methods.cost import GIB, GIGA, Cost, Surroundings
from kiss3d_cli.methods.reconstruct.grid import Grid
from kiss3d_cli.methods.shared import Cameras

COST = Cost(loaded=1.5 * GIGA, host_seconds=3.5, video=5 * GIB, least_video=5 * GIB, prepared={"prm": 1.5 * GIGA})
"""Of a pass. A user's card took 4 s for the second one with its surface."""


class LrmSettings(Grid, Cameras):
    """Where the cameras of the views stand, and how finely the network's field is asked."""


class Lrm(Method[LrmSettings]):
    """The mesh that the network makes of the bundle's colours."""

    stage, name, version = "reconstruct", "lrm", 3
    settings = LrmSettings
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)
    help = "asks the large reconstruction model"
    default = True

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    def cost(self, settings: LrmSettings, around: Surroundings) -> Cost:
        return COST

    @contextmanager
    def open(self, settings: LrmSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.lrm import loaded, reconstruct

        network = once(lambda: loaded(machine))
        yield lambda context: reconstruct(settings, network, context)
