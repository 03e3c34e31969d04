"""What is asked of an export, checked before anything is read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.util import find_spec

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.export.targets import FORMATS, TARGETS, UNITS, Axis, Origin, Target

SMALLEST, LARGEST = 1e-4, 1e3
"""Metres: what lies beyond is a slip of the unit."""
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\W\d_]*)\s*")
_MOST_LEVELS = 8
_MODULES = {"usd-core": "pxr"}
EXTRA = "'kiss3d[export]'"


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        to: one of `TARGETS`.
        kind: the file format; None is the target's first.
        height: metres from the lowest to the highest point; None leaves the size to the target.
        faces: at most; None leaves it to the target.
        origin, up: None leaves them to the target and the format.
        texture: pixels a side, at most; None leaves it to the target.
        stable: printing alone: lay the object on the side on which it stands firmest.
        base: printing alone: cut it flat where it stands.
        wall: printing alone: metres that no wall may fall below.
        hollow: printing alone: empty inside, with holes to drain it.
        lods: levels of detail, this one included, each with half of the faces.
        collision: convex hulls for a physics engine too.
        roughness: of the material, from 0 for a mirror to 1 for chalk; None leaves the mesh's own.
        normal_map: with a normal map, or without; None writes one where there is something to show on it.
    """

    to: str
    kind: str | None = None
    height: float | None = None
    faces: int | None = None
    origin: Origin | None = None
    up: Axis | None = None
    texture: int | None = None
    stable: bool = False
    base: bool = False
    wall: float | None = None
    hollow: bool = False
    lods: int = 1
    collision: bool = False
    roughness: float | None = None
    normal_map: bool | None = None

    @property
    def target(self) -> Target:
        return TARGETS[self.to]

    @property
    def format(self) -> str:
        return self.kind or self.target.formats[0]

    @property
    def upward(self) -> Axis:
        return self.up or self.target.up_in(self.format)

    @property
    def textured(self) -> bool:
        return FORMATS[self.format].textured

    def check(self) -> None:
        """
        Raises:
            BadInput: something is unknown, impossible, or nothing that the target or the format can hold.
        """
        if self.to not in TARGETS:
            raise BadInput(f"there is no target '{self.to}'", place="--to", hint=_one_of(TARGETS))
        if self.format not in FORMATS:
            raise BadInput(f"there is no format '{self.format}'", place="--format", hint=_one_of(FORMATS))
        if self.format not in self.target.formats:
            cause = f"{self.target.purpose} is not given {self.format} files here"
            raise BadInput(cause, place="--format", hint=_one_of(self.target.formats))
        self._check_numbers()
        self._check_axes()
        self._check_extras()

    def require(self) -> None:
        """
        Raises:
            Missing: a package that the target or an option needs.
        """
        needed = {
            "manifold3d": self.target.solid and "--to print",
            "meshopt": self.to == "web" and "--to web",
            "usd-core": self.format == "usdz" and "--format usdz",
            "coacd": self.collision and "--collision",
        }
        for package, place in needed.items():
            if place and find_spec(_MODULES.get(package, package)) is None:
                hint = f"pip install {EXTRA}"
                raise Missing(f"{package} is not installed", place=place, hint=hint)

    def _check_numbers(self) -> None:
        if self.height is not None:
            check_size(self.height, "--height")
        if self.wall is not None:
            check_size(self.wall, "--wall")
            if self.height is not None and self.wall > self.height / 4:
                cause = f"a wall of {self.wall * 1000:g} mm leaves nothing of {self.height * 1000:g} mm"
                raise BadInput(cause, place="--wall", hint="give a quarter of the height at most; 1.2mm is usual")
        if self.faces is not None and self.faces < 4:
            raise BadInput(f"a mesh can't have {self.faces} faces", place="--faces", hint="ask for 4 at least")
        if self.texture is not None and (not 16 <= self.texture <= 8192 or self.texture & (self.texture - 1)):
            cause = f"a texture of {self.texture} pixels a side is not what engines take"
            raise BadInput(cause, place="--texture", hint="give a power of two from 16 to 8192")
        if self.roughness is not None and not 0 <= self.roughness <= 1:
            cause = f"{self.roughness:g} is not a roughness"
            raise BadInput(cause, place="--roughness", hint="give a number from 0 (a mirror) to 1 (chalk)")
        if not 1 <= self.lods <= _MOST_LEVELS:
            cause = f"there can't be {self.lods} levels of detail"
            raise BadInput(cause, place="--lods", hint=f"give a number from 1 to {_MOST_LEVELS}")

    def _check_axes(self) -> None:
        fixed = FORMATS[self.format].up
        if self.up is not None and fixed is not None and self.up != fixed:
            others = [kind for kind in self.target.formats if FORMATS[kind].up is None]
            cause = f"in {self.format} files {fixed} is up, by the format's specification"
            hint = f"leave --up out: readers turn the mesh themselves{', or --format ' + others[0] if others else ''}"
            raise BadInput(cause, place="--up", hint=hint)
        if self.to == "print" and self.up == "y":
            raise BadInput("slicers take z as up", place="--up", hint="leave --up out")
        if self.to == "print" and self.origin == "center":
            raise BadInput("a print stands on the bed", place="--origin", hint="leave --origin out")

    def _check_extras(self) -> None:
        printing = {"--stable": self.stable, "--base": self.base, "--wall": self.wall, "--hollow": self.hollow}
        asked = next((name for name, value in printing.items() if value), None)
        if asked and self.to != "print":
            raise BadInput("this is for prints", place=asked, hint="add --to print")
        self._check_material(self.roughness is not None, "--roughness", "material")
        self._check_material(bool(self.normal_map), "--normal-map", "normal map")
        playing = {"--lods": self.lods > 1, "--collision": self.collision}
        asked = next((name for name, value in playing.items() if value), None)
        if asked and self.to not in ENGINES:
            raise BadInput("this is for game engines", place=asked, hint=_one_of(ENGINES, "--to "))

    def _check_material(self, asked: bool, place: str, what: str) -> None:
        if not asked or (self.textured and not self.target.solid):
            return
        others = [kind for kind in self.target.formats if FORMATS[kind].textured and not self.target.solid]
        hint = f"add --format {others[0]}" if others else f"leave {place} out"
        kind = "prints" if self.target.solid else f"{self.format} files"
        raise BadInput(f"{kind} have no {what}", place=place, hint=hint)


ENGINES = ("unity", "unreal", "godot")
"""Targets that take levels of detail and collision hulls."""


def length(text: str, place: str) -> float:
    """Metres of a length as one types it: `80mm`, `8 cm`, `3.2in`.

    Raises:
        BadInput: no number, no unit, one that is unknown, or a size that no object has.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadInput(f"'{text}' is not a length", place=place, hint="give a number and a unit, for example 80mm")
    number, unit = float(match[1]), match[2].lower()
    if not unit:
        raise BadInput(f"'{text.strip()}' has no unit", place=place, hint=f"say {text.strip()}mm, cm, m or in")
    unit = unit if unit in UNITS else unit.removesuffix("s")
    if unit not in UNITS:
        hint = "mm, cm, m, in and ft are known"
        raise BadInput(f"'{match[2]}' is not a unit of length that is known", place=place, hint=hint)
    metres = number * UNITS[unit]
    check_size(metres, place)
    return metres


def check_size(metres: float, place: str) -> None:
    if not math.isfinite(metres) or metres <= 0:
        raise BadInput("a length must be a positive number", place=place, hint="for example 80mm")
    if not SMALLEST <= metres <= LARGEST:
        cause = f"{metres:g} m is no size that an object of this kind has"
        raise BadInput(cause, place=place, hint="give something from 0.1 mm to 1 km, for example 80mm")


def _one_of(names: object, before: str = "") -> str:
    return "one of " + ", ".join(f"{before}{name}" for name in names)  # type: ignore[attr-defined]
