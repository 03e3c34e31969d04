"""The object by GrabCut."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.preprocess.framing import TAKES, WINDOW, WRITES, WRITES_FOR, Framed
from kiss3d_cli.methods.shared import Seeded


class GrabCutSettings(Framed, Seeded):
    """Where GrabCut draws its samples, and how the object is framed."""


class GrabCut(Weightless[GrabCutSettings]):
    """An alpha channel wins; without one the ground's colour where it is plain, else GrabCut finds the object."""

    stage, name, version = "preprocess", "grabcut", 3
    settings = GrabCutSettings
    reads = ("picture",)
    takes = TAKES
    writes = (*WRITES, WINDOW)
    writes_for = WRITES_FOR
    help = "segments by colour"
    default = True

    def cost(self, settings: GrabCutSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=3)

    def work(self, settings: GrabCutSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.image.matting import cut_out
        from kiss3d_cli.methods.preprocess.cut import cut_and_frame

        cut_and_frame(context, settings, "GrabCut", lambda rgb: cut_out(rgb, seed=settings.seed, largest=False))
