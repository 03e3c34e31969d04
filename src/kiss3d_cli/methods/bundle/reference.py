"""The reference bundle as it is."""

from __future__ import annotations

import shutil

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings


class Reference(Weightless[Settings]):
    """The reference bundle as it is."""

    stage, name, version = "bundle", "reference", 1
    reads = ("reference/reference_bundle.png",)
    writes = ("bundle.png",)
    help = "passes the reference bundle on"

    def cost(self, settings: Settings, around: Surroundings) -> Cost:
        return Cost(host_seconds=0.1)

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        shutil.copyfile(context.inputs["reference/reference_bundle.png"], context.output / "bundle.png")
