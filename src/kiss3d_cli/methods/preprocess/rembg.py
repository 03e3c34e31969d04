"""The object by IS-Net, as rembg publishes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened, once
from kiss3d_cli.methods.cost import GIGA, Cost, Surroundings
from kiss3d_cli.methods.preprocess.framing import TAKES, WINDOW, WRITES, WRITES_FOR, Framed

NO_OBJECT = "give a picture with a transparent background, or use --set preprocess.method=grabcut"


class Rembg(Method[Framed]):
    """An alpha channel wins; without one IS-Net finds the object."""

    stage, name, version = "preprocess", "rembg", 3
    settings = Framed
    reads = ("picture",)
    takes = TAKES
    writes = (*WRITES, WINDOW)
    writes_for = WRITES_FOR
    packages = ("onnxruntime",)
    help = "runs IS-Net"

    def models(self, settings: Framed) -> tuple[str, ...]:
        return ("isnet",)

    def cost(self, settings: Framed, around: Surroundings) -> Cost:
        return Cost(loaded=0.18 * GIGA, host_seconds=2, memory=GIGA)

    @contextmanager
    def open(self, settings: Framed, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.image.matting import Matte, require_foreground
        from kiss3d_cli.methods.preprocess.cut import Pixels, cut_and_frame
        from kiss3d_cli.models.isnet.network import IsNet

        network = once(lambda: IsNet(machine.models["isnet"]))

        def cut(rgb: Pixels) -> Matte:
            alpha = network()(rgb)
            require_foreground(alpha, NO_OBJECT)
            return Matte(alpha)

        yield lambda context: cut_and_frame(context, settings, "IS-Net", cut, learned=True)
