"""The final mesh as another program wants it: what `kiss3d export` does, as the last stage of a run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.methods.base import Context, Machine, Prospect, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras

if TYPE_CHECKING:
    from kiss3d_cli.export.options import Options

PICTURE = ("picture", "preprocess/image_rgba.png", "preprocess/window.json")
"""What the front of the mesh is painted from once more, at the picture's own resolution."""
BUNDLE = "bundle/bundle.png"
"""Whose normals hold the detail of its normal map."""
STEM = "mesh"
"""Of the files' names."""


class FilesSettings(Cameras):
    section: ClassVar[str] = "export"

    to: Literal["none", "print", "blender", "unity", "unreal", "godot", "web", "ar"] = "none"
    """Target program of the export; `none` switches the stage off."""
    format: Literal["stl", "3mf", "obj", "glb", "usdz", "ply"] | None = None
    """The file format; empty means what suits the target."""
    height: str | None = None
    """Height of the object with its unit, `80mm` for example; empty leaves the size to the target."""
    faces: int | None = Field(None, ge=4)
    """Maximum number of faces; empty leaves it to the target."""
    origin: Literal["floor", "center"] | None = None
    """Where the origin lies: below the object's middle at its lowest point, or in its middle; empty leaves it to the
    target."""
    up: Literal["y", "z"] | None = None
    """Up axis, in formats that do not fix it; empty means the target's."""
    texture: int | None = Field(None, ge=16, le=8192)
    """Maximum texture size in pixels, a power of two; empty leaves it to the target."""
    stable: bool = False
    """Prints: lay the object on its most stable side."""
    base: bool = False
    """Prints: cut the bottom flat."""
    wall: str | None = None
    """Prints: minimum wall thickness, `1.2mm` for example; empty leaves walls as they are."""
    hollow: bool = False
    """Prints: hollow the object, with drain holes."""
    lods: int = Field(1, ge=1, le=8)
    """Game engines: levels of detail (LOD), each with half the faces."""
    collision: bool = False
    """Game engines: convex hulls for physics too."""
    roughness: float | None = Field(None, ge=0, le=1)
    """Roughness of the material, from 0 (a mirror) to 1 (chalk); empty keeps the mesh's, 1."""
    normal_map: bool | None = None
    """Write a normal map; empty writes one where the bundle's normals, or the faces that were removed, hold detail that
    the mesh does not."""

    def asked(self) -> Options:
        """
        Raises:
            BadInput: something that the target can't hold; its place is the option of the command line.
        """
        from kiss3d_cli.export.options import Options, length

        options = Options(
            to=self.to,
            kind=self.format,
            height=None if self.height is None else length(self.height, "--height"),
            faces=self.faces,
            origin=self.origin,
            up=self.up,
            texture=self.texture,
            stable=self.stable,
            base=self.base,
            wall=None if self.wall is None else length(self.wall, "--wall"),
            hollow=self.hollow,
            lods=self.lods,
            collision=self.collision,
            roughness=self.roughness,
            normal_map=self.normal_map,
        )
        options.check()
        return options

    def faults(self) -> Iterator[str]:
        if self.to == "none":
            return
        try:
            self.asked()
        except BadInput as error:
            field = str(error.place).removeprefix("--").partition(" ")[0].replace("-", "_")
            yield f"{field}: {in_settings(error.cause)}; {in_settings(error.hint or '')}"


def in_settings(text: str) -> str:
    """A sentence about options of the command line, told of the settings that are called as they are."""
    text = text.replace("--normal-map", "--normal_map")
    return re.sub(r"--(\w+)", r"export.\1", re.sub(r"--(to|format) (\w+)", r"export.\1=\2", text))


@contextmanager
def _told_in_settings() -> Iterator[None]:
    """Errors within name settings instead of options."""
    try:
        yield
    except Kiss3dError as error:
        error.cause = in_settings(error.cause)
        error.place = None if error.place is None else in_settings(error.place)
        error.hint = None if error.hint is None else in_settings(error.hint)
        raise


class Files(Weightless[FilesSettings]):
    """Size, axes, faces, texture and format of a target, written from the final mesh."""

    stage, name, version = "export", "files", 4
    settings = FilesSettings
    reads = ("refine/mesh.glb",)
    takes = ("place/mesh.glb", BUNDLE, *PICTURE)
    writes = ("export.json",)
    help = "writes what `export.to` asks for"
    default = True

    def idle(self, settings: FilesSettings) -> str | None:
        return "switched off by export.to=none" if settings.to == "none" else None

    def cost(self, settings: FilesSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=8 + 5 * settings.collision + 10 * settings.hollow, memory=1.0 * GIB)

    def require(self, settings: FilesSettings, prospect: Prospect) -> None:
        with _told_in_settings():
            settings.asked().require()

    def work(self, settings: FilesSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.core.files import write_durably
        from kiss3d_cli.core.records import write_json
        from kiss3d_cli.export.exporting import export
        from kiss3d_cli.export.photograph import RunPicture
        from kiss3d_cli.export.relief import RunNormals
        from kiss3d_cli.export.source import read_model

        context.progress(0.0, "reading the mesh")
        placed = context.inputs.get("place/mesh.glb")
        model, notes = read_model(placed or context.inputs["refine/mesh.glb"])
        if placed is None and all(name in context.inputs for name in PICTURE):
            picture, framed, window = (context.inputs[name] for name in PICTURE)
            model = dataclasses.replace(model, origin=RunPicture(picture, framed, window, settings.radius))
        if placed is None and BUNDLE in context.inputs:
            model = dataclasses.replace(model, bundle=RunNormals(context.inputs[BUNDLE], settings.radius))
        with _told_in_settings():
            made = export(model, settings.asked(), STEM, context.progress)
        for file, data in made.files.items():
            write_durably(context.output / file, data)
        context.warnings.extend(in_settings(note) for note in (*notes, *made.notes))
        context.facts.update(made.facts)
        (context.output / "export.json").write_bytes(write_json({**made.facts, "notes": context.warnings}))
