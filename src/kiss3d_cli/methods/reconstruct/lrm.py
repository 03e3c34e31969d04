"""The mesh by the large reconstruction model (pass 2)."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.reconstruct.grid import Grid
from kiss3d_cli.methods.shared import Cameras


class LrmSettings(Grid, Cameras):
    """Where the cameras of the views stand, and how finely the network's field is asked."""


class Lrm(Weightless[LrmSettings]):
    """The mesh that the network makes of the bundle's colours."""

    stage, name, version = "reconstruct", "lrm", 3
    settings = LrmSettings
    reads = ("bundle/bundle.png",)
    writes = ("mesh.ply",)

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    def work(self, settings: LrmSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.methods.lrm import reconstruct

        reconstruct(settings, machine, context)
