"""The mesh by the large reconstruction model (pass 2)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kiss3d_cli.methods.base import Context, Machine, Method, Opened, once
from kiss3d_cli.methods.cost import GIB, GIGA, Cost, Surroundings
from kiss3d_cli.methods.reconstruct.grid import Grid
from kiss3d_cli.methods.shared import Cameras

if TYPE_CHECKING:
    from kiss3d_cli.methods.lrm import Network

COST = Cost(loaded=1.5 * GIGA, host_seconds=3.5, video=5 * GIB, least_video=5 * GIB, prepared={"prm": 1.5 * GIGA})
"""Of a pass. A user's card took 4 s for the second one with its surface."""


class LrmSettings(Grid, Cameras):
    """Where the cameras of the views stand, and how finely the network's field is asked."""


class OfLrm(Method[LrmSettings]):
    """A method that has the network reconstruct a mesh; the two passes differ in what they make of which views."""

    settings = LrmSettings

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    def cost(self, settings: LrmSettings, around: Surroundings) -> Cost:
        return COST

    @contextmanager
    def open(self, settings: LrmSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.lrm import loaded

        network = once(lambda: loaded(machine))
        yield lambda context: self.work(settings, network, context)

    @abstractmethod
    def work(self, settings: LrmSettings, network: Network, context: Context) -> None:
        """One run; `network` loads when it is first called."""


class Lrm(OfLrm):
    """The mesh that the network makes of the bundle's colours."""

    stage, name, version = "reconstruct", "lrm", 3
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)
    help = "runs the large reconstruction model"
    default = True

    def work(self, settings: LrmSettings, network: Network, context: Context) -> None:
        from kiss3d_cli.methods.lrm import reconstruct

        reconstruct(settings, network, context)
