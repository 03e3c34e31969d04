"""A bundle or a grid of views made elsewhere."""

from __future__ import annotations

from typing import ClassVar, Literal

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras


class FileSettings(Cameras):
    section: ClassVar[str] = "bundle"

    normals: Literal["auto", "kiss3d", "opengl", "kiss3d-y-down", "opengl-y-down"] = "auto"
    """Sign convention of a given bundle's normals: `opengl` does not mirror x, `y-down` mirrors y; `auto` infers it
    from the outlines."""
    swap_sides: bool = False
    """Swap the right and left views of a given bundle."""


class File(Weightless[FileSettings]):
    """A bundle made elsewhere, or a 3x2, 2x6, 1x6 or 1x4 grid of views: checked, repaired, in kiss3d's conventions."""

    stage, name, version = "bundle", "file", 3
    settings = FileSettings
    reads = ("bundle",)
    writes = ("bundle.png",)
    help = "takes `--bundle`"

    def cost(self, settings: FileSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=2)

    def work(self, settings: FileSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.image.bundle import write_bundle
        from kiss3d_cli.methods.bundle.elsewhere import read_elsewhere

        bundle = read_elsewhere(context.inputs["bundle"], settings.normals, settings.swap_sides, settings.radius)
        context.warnings.extend(bundle.notes)
        write_bundle(context.output / "bundle.png", bundle)
