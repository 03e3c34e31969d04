"""A bundle made elsewhere."""

from __future__ import annotations

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless


class File(Weightless[Settings]):
    """A bundle made elsewhere, checked and repaired."""

    stage, name, version = "bundle", "file", 1
    reads = ("bundle",)
    writes = ("bundle.png",)

    def work(self, settings: Settings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.image.bundle import join_bundle, load_bundle
        from kiss3d_cli.image.png import write_png

        bundle = load_bundle(context.inputs["bundle"])
        context.warnings.extend(bundle.notes)
        write_png(context.output / "bundle.png", join_bundle(bundle))
