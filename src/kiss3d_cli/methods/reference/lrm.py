"""The reference bundle by the large reconstruction model (pass 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kiss3d_cli.methods.base import Machine, Method, Opened, once
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.reconstruct.lrm import COST, LrmSettings
from kiss3d_cli.methods.shared import VIEW_FILES


class Lrm(Method[LrmSettings]):
    """The four views over the normals of the mesh that the network makes of them."""

    stage, name, version = "reference", "lrm", 2
    settings = LrmSettings
    reads = tuple(f"multiview/{name}" for name in VIEW_FILES)
    writes = ("reference_bundle.png", "mesh.ply")
    help = "reconstructs one with the large reconstruction model"
    default = True

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    def cost(self, settings: LrmSettings, around: Surroundings) -> Cost:
        return COST

    @contextmanager
    def open(self, settings: LrmSettings, machine: Machine) -> Iterator[Opened]:
        from kiss3d_cli.methods.lrm import loaded, reference

        network = once(lambda: loaded(machine))
        yield lambda context: reference(settings, network, context)
