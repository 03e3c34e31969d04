"""The mesh by the large reconstruction model (pass 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened, once
from kiss3d_cli.methods.reconstruct.grid import Grid
from kiss3d_cli.methods.shared import Cameras


class LrmSettings(Grid, Cameras):
    """Where the cameras of the views stand, and how finely the network's field is asked."""


class Lrm(Method[LrmSettings]):
    """The mesh that the network makes of the bundle's colours."""

    stage, name, version = "reconstruct", "lrm", 3
    settings = LrmSettings
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    @contextmanager
    def open(self, settings: LrmSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.lrm import loaded, reconstruct

        network = once(lambda: loaded(machine))
        yield lambda context: reconstruct(settings, network, context)
