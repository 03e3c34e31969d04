"""The caption measured from the picture, without a model."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.caption.words import READS, WRITES, Given, measured, write_caption
from kiss3d_cli.methods.cost import Cost, Surroundings


class Describe(Weightless[Given]):
    """The user's own words, or a description measured from the picture."""

    stage, name, version = "caption", "describe", 2
    settings = Given
    reads = READS
    writes = WRITES
    help = "measures colours and proportions"

    def cost(self, settings: Given, around: Surroundings) -> Cost:
        return Cost(host_seconds=0.3)

    def work(self, settings: Given, machine: Machine, context: Context) -> None:
        given = settings.text
        write_caption(context, {"caption": given, "source": "given"} if given is not None else measured(context))
