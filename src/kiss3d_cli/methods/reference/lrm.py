"""The reference bundle by the large reconstruction model (pass 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiss3d_cli.methods.base import Context
from kiss3d_cli.methods.reconstruct.lrm import LrmSettings, OfLrm
from kiss3d_cli.methods.shared import VIEW_FILES

if TYPE_CHECKING:
    from kiss3d_cli.methods.lrm import Network


class Lrm(OfLrm):
    """The four views over the normals of the mesh that the network makes of them."""

    stage, name, version = "reference", "lrm", 2
    reads = tuple(f"multiview/{name}" for name in VIEW_FILES)
    writes = ("reference_bundle.png", "mesh.ply")
    help = "runs the large reconstruction model"
    default = True

    def work(self, settings: LrmSettings, network: Network, context: Context) -> None:
        from kiss3d_cli.methods.lrm import reference

        reference(settings, network, context)
