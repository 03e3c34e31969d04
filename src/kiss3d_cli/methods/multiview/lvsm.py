"""Views that a network of one's own training draws from the given ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiss3d_cli.core.errors import Missing
from kiss3d_cli.methods.base import Context, Machine, Method, Opened, Prospect, once
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.multiview.views import SIDES_TAKEN, WRITES, OwnWeights, Tiles
from kiss3d_cli.methods.shared import Cameras

DRAWN = 0.3
"""How much a drawn picture counts against a given one, where both show a point of the surface."""


class LvsmSettings(Tiles, OwnWeights, Cameras):
    pass


class Lvsm(Method[LvsmSettings]):
    """Views that a network draws from one to three given ones, on the surface that their silhouettes allow.

    From a single picture, the network corrects the views of the inflated silhouette. `drawn.png` shows its own
    pictures, in their own size, in the order of the bundle's columns.
    """

    stage, name, version = "multiview", "lvsm", 5
    settings = LvsmSettings
    reads = ("preprocess/image_rgba.png",)
    takes = SIDES_TAKEN
    writes = (*WRITES, "surface.ply")
    help = "generates the missing views from the given ones with weights that you trained"

    def cost(self, settings: LvsmSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=4, memory=0.3 * GIB)

    def require(self, settings: LvsmSettings, prospect: Prospect) -> None:
        weights_of(settings)

    @contextmanager
    def open(self, settings: LvsmSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.multiview.lvsm_views import draw
        from kiss3d_cli.models.lvsm.weights import LoadedLvsm, load

        @once
        def loaded() -> LoadedLvsm:
            found = load(weights_of(settings))
            found.network.to(machine.device.torch)
            return found

        def work(context: Context) -> None:
            context.progress(0.0, "reading the weights")
            draw(settings.radius, settings.tile, loaded().network, context, DRAWN)
            context.facts["weights"] = loaded().sha256

        yield work


def weights_of(settings: LvsmSettings) -> Path:
    """The file of weights, of which the header is whole.

    Raises:
        Missing: no file is given, or it is not there. DamagedRun: it is damaged or of another format.
    """
    from kiss3d_cli.models.lvsm.config import TRAIN, look

    if settings.weights is None:
        raise Missing(
            "the view synthesis model has no weights: none come with kiss3d",
            place="multiview.weights",
            hint=f"{TRAIN}, then --set multiview.weights=outputs/lvsm/run/lvsm.safetensors",
        )
    look(Path(settings.weights))
    return Path(settings.weights)
