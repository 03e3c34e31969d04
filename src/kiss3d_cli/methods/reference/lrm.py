"""The reference bundle by the large reconstruction model (pass 1)."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.reconstruct.lrm import LrmSettings
from kiss3d_cli.methods.shared import VIEW_FILES


class Lrm(Weightless[LrmSettings]):
    """The four views over the normals of the mesh that the network makes of them."""

    stage, name, version = "reference", "lrm", 2
    settings = LrmSettings
    reads = tuple(f"multiview/{name}" for name in VIEW_FILES)
    writes = ("reference_bundle.png", "mesh.ply")

    def models(self, settings: LrmSettings) -> tuple[str, ...]:
        return ("prm",)

    def work(self, settings: LrmSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.methods.lrm import reference

        reference(settings, machine, context)
