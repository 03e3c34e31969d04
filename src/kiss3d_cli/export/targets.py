"""The requirements of each target program, as one table; `docs/export.md` is generated from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Axis = Literal["y", "z"]
Origin = Literal["floor", "center"]
UNITS: Mapping[str, float] = {
    "mm": 1e-3, "millimetre": 1e-3, "millimeter": 1e-3, "cm": 1e-2, "centimetre": 1e-2, "centimeter": 1e-2, "m": 1.0,
    "metre": 1.0, "meter": 1.0, "in": 0.0254, "inch": 0.0254, "ft": 0.3048, "foot": 0.3048,
}  # fmt: skip
"""Metres in one of each unit of length that may be typed."""


@dataclass(frozen=True)
class Format:
    """What a file format fixes by its own specification.

    Attributes:
        up, unit: the axis and the unit that every reader takes; None where the file can't say and the target decides.
        textured: it holds a texture.
    """

    up: Axis | None
    unit: str | None
    textured: bool


FORMATS: Mapping[str, Format] = {
    "glb": Format("y", "m", textured=True),
    "usdz": Format("y", "m", textured=True),
    "3mf": Format("z", "mm", textured=False),
    "obj": Format(None, None, textured=True),
    "ply": Format(None, None, textured=False),
    "stl": Format(None, None, textured=False),
}


@dataclass(frozen=True)
class Target:
    """One kind of program.

    Attributes:
        purpose: what it is, for the help.
        formats: what it opens; the first is written unless another is asked for.
        up, unit: of files in a format that fixes neither.
        origin: below the middle of the object, at its lowest point (`floor`), or its middle.
        longest: metres of the longest side where no height is given; None keeps the size, a world unit being a metre.
        texture: pixels a side, at most; a power of two.
        faces: at most; None keeps them all.
        solid: the mesh must have one closed outside.
        tried: the reader in which files for it were opened.
        obj_up: what its reader takes for up in OBJ files, where that is another axis.
        bytes: of the mesh's file, at most, where neither faces nor a texture's size are asked for.
        hull: the name by which its importer knows a collision hull in a GLB, of the mesh's name and a number.
    """

    purpose: str
    formats: tuple[str, ...]
    up: Axis
    unit: str
    origin: Origin
    longest: float | None
    texture: int
    faces: int | None
    solid: bool
    tried: str
    obj_up: Axis | None = None
    bytes: int | None = None
    hull: str = "{}_hull_{}"

    def up_in(self, kind: str) -> Axis:
        """The upward axis of a file in this format."""
        return FORMATS[kind].up or (kind == "obj" and self.obj_up) or self.up

    def unit_in(self, kind: str) -> str:
        """The unit of length of a file in this format."""
        return FORMATS[kind].unit or self.unit


_KHRONOS = "Khronos' validator"
TARGETS: Mapping[str, Target] = {
    "print": Target(
        "a slicer", ("3mf", "stl", "obj", "ply"), "z", "mm", "floor", 0.1, 2048, None, True, "PrusaSlicer 2.5"
    ),
    "blender": Target(
        "Blender", ("glb", "obj", "ply", "stl"), "z", "m", "floor", None, 4096, None, False, "bpy 5.0", "y"
    ),
    "unity": Target("Unity", ("obj", "glb"), "y", "m", "floor", None, 2048, 20_000, False, "bpy 5.0"),
    "unreal": Target(
        "Unreal Engine", ("glb",), "y", "m", "floor", None, 2048, 50_000, False, _KHRONOS, hull="UCX_{}_{:02}"
    ),
    "godot": Target(
        "Godot", ("glb", "obj"), "y", "m", "floor", None, 2048, 20_000, False, _KHRONOS, hull="{}_{}-convcolonly"
    ),
    "web": Target(
        "a web page", ("glb",), "y", "m", "center", None, 1024, 30_000, False, "<model-viewer> 4.4", bytes=1_000_000
    ),
    "ar": Target(
        "a phone's room", ("usdz", "glb"), "y", "m", "floor", 0.3, 2048, 100_000, False, "OpenUSD's validators"
    ),
}


def front(up: Axis) -> str:
    """The direction in which the object looks: the world's +z, or Blender's -y."""
    return "+z" if up == "y" else "-y"


def table() -> str:
    """The targets as a Markdown table."""
    head = ("`--to`", "opened by", "formats", "up", "front", "unit", "origin", "size", "texture", "faces", "tried in")
    rows = [head, ("---",) * len(head)]
    for name, target in TARGETS.items():
        ups = dict.fromkeys(target.up_in(kind) for kind in target.formats)
        units = dict.fromkeys(target.unit_in(kind) for kind in target.formats)
        rows.append(
            (
                f"`{name}`",
                target.purpose,
                ", ".join(f"**{kind}**" if kind == target.formats[0] else kind for kind in target.formats),
                "/".join(ups),
                "/".join(front(up) for up in ups),
                "/".join(units),
                target.origin,
                "as it is" if target.longest is None else f"longest side {target.longest * 1000:g} mm",
                f"{target.texture} px",
                "all" if target.faces is None else f"{target.faces:,}",
                target.tried,
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
