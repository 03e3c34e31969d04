"""The material libraries of an OBJ: colours (Kd) and pictures (map_Kd), in linear light."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from kiss3d_cli.core.color_space import srgb_to_linear
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.io.picture import CLAMP, NoPicture, Picture, encoded, open_picture
from kiss3d_cli.geometry.io.source import Source

# options of map statements and how many values follow them (specification of MTL, "texture map statements")
_OPTIONS = {"-blendu": 1, "-blendv": 1, "-bm": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2,
            "-texres": 1, "-type": 1, "-colorspace": 1}  # fmt: skip
_UP_TO_THREE = ("-o", "-s", "-t")


@dataclass
class _Material:
    factor: Float[np.ndarray, " 3"] | None = None  # sRGB-encoded, as viewers take it
    picture: str | None = None
    clamp: bool = False
    scale: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.ones(2))
    offset: Float[np.ndarray, " 2"] = field(default_factory=lambda: np.zeros(2))
    unknown: str | None = None  # why its colour can't be told


class Materials:
    """What the libraries of one file say. All that is missing is noted, and leaves the mesh without colours."""

    def __init__(self, source: Source, libraries: list[str]) -> None:
        self.source = source
        self.materials: dict[str, _Material] = {}
        self._alike: dict[str, list[str]] = {}  # names by what they are without a comment
        self.complete = True
        for name in libraries:
            self._read(name)

    def _trouble(self, sentence: str) -> None:
        self.source.note(f"{sentence}; the mesh is taken without colours")
        self.complete = False

    def _beside(self, name: str) -> bytes:
        """A file beside, whose name may be followed by a comment, or have one's sign in it."""
        try:
            return self.source.beside(name)
        except BadInput:
            if _uncommented(name) == name:
                raise
            return self.source.beside(_uncommented(name))

    def _named(self, name: str) -> _Material | None:
        """The material of a name, which may be followed by a comment here or there."""
        if name in self.materials:
            return self.materials[name]
        if not self._alike:
            for known in self.materials:
                self._alike.setdefault(_uncommented(known), []).append(known)
        alike = self._alike.get(_uncommented(name), [])
        return self.materials[alike[0]] if len(alike) == 1 else None

    def _read(self, name: str) -> None:
        try:
            data = self._beside(name)
        except BadInput as error:
            try:  # a list of files, which only a name without blanks can be part of
                parts = _uncommented(name).split()
                if len(parts) < 2:
                    raise error
                data = b"\n".join(self.source.beside(part) for part in parts)
            except BadInput:
                self._trouble(error.cause)
                return
        current = _Material()
        for line in data.decode("utf-8", "replace").replace("\r", "\n").splitlines():
            words = line.strip().split(None, 1)
            if len(words) != 2:
                continue
            statement, rest = words[0].lower(), words[1].strip()
            if statement == "newmtl":
                current = self.materials[rest] = _Material()
            elif statement == "kd":
                _set_factor(current, rest.split("#")[0])
            elif statement == "map_kd":
                _set_picture(current, rest)

    def colors(
        self,
        names: list[str],
        used: Int[np.ndarray, " M"],
        uv: Float[np.ndarray, "M 2"],
        own: Float[np.ndarray, "M 3"] | None = None,
    ) -> Float[np.ndarray, "M 3"] | None:
        """sRGB-encoded colours of corners; NaN where no material says any; None where one can't be told.

        Args:
            names: of the materials.
            used: which of them each corner has.
            uv: texture coordinates, v upwards; NaN for a corner without any.
            own: colours of the vertices, NaN for one without; they come after a picture and before a plain colour.
        """
        colors = np.full((len(used), 3), np.nan)
        for number in np.unique(used).tolist():
            rows = used == number
            name = names[number]
            if not name:
                continue
            material = self._named(name)
            if material is None:
                if self.complete:
                    self._trouble(f"its material libraries have no material '{name}'")
                continue
            colors[rows] = self._of_material(name, material, uv[rows])
        if own is not None:
            materials = [self._named(name) for name in names]
            pictured = [material is not None and material.picture is not None for material in materials]
            plain = ~np.array(pictured)[used][:, None] & ~np.isnan(own)
            colors = np.where(plain, own, colors)
        return colors if self.complete else None

    def _of_material(self, name: str, material: _Material, uv: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "#M 3"]:
        if material.unknown is not None:
            self._trouble(f"material '{name}' {material.unknown}")
            return np.full((1, 3), np.nan)
        factor = np.ones(3) if material.factor is None else material.factor
        if material.picture is None:
            return np.full((1, 3), np.nan) if material.factor is None else factor[None]
        if not factor.any():
            self.source.note(f"material '{name}' has a black Kd under its texture: the texture alone is taken")
            factor = np.ones(3)
        try:
            pixels = open_picture(self._beside(material.picture))
            if np.isnan(uv).any():
                raise NoPicture("is used by faces without texture coordinates")
            picture = Picture(pixels, (CLAMP, CLAMP)) if material.clamp else Picture(pixels)
            upright = (uv * material.scale + material.offset) * [1, -1] + [0, 1]  # OBJ has v upwards
            return encoded(picture.linear(upright) * srgb_to_linear(factor))
        except NoPicture as error:
            self._trouble(f"the texture '{material.picture}' of material '{name}' {error}")
        except BadInput as error:
            self._trouble(error.cause)
        return np.full((1, 3), np.nan)


def _set_factor(material: _Material, rest: str) -> None:
    try:
        values = [float(word) for word in rest.split()]
    except ValueError:
        material.unknown = f"has a colour that is not three numbers (Kd {rest[:40]})"
        return
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not np.isfinite(values).all():
        material.unknown = f"has a colour that is not three numbers (Kd {rest[:40]})"
        return
    material.factor = np.array(values).clip(0, 1)


def _set_picture(material: _Material, rest: str) -> None:
    """A map statement: options, then a name that may have blanks and backslashes."""
    words = rest.split()
    while words and words[0].lower() in (*_OPTIONS, *_UP_TO_THREE):
        option = words.pop(0).lower()
        most = _OPTIONS.get(option, 3)
        values: list[str] = []
        while words and len(values) < most and (option in _OPTIONS or _is_number(words[0])) and len(words) > 1:
            values.append(words.pop(0))
        if option == "-clamp":
            material.clamp = values == ["on"]
        elif option in ("-o", "-s"):
            pair = np.array([float(value) for value in values][:2])
            target = material.offset if option == "-o" else material.scale
            target[: len(pair)] = pair
        elif option == "-mm" and [float(v) for v in values if _is_number(v)] != [0.0, 1.0]:
            material.unknown = "changes the values of its texture (-mm)"
        elif option in ("-t", "-imfchan", "-cc"):
            material.unknown = f"changes its texture ({option})"
    position = len(rest)  # the name as it is written, with the blanks between its words
    for word in reversed(words):
        position = rest.rfind(word, 0, position)
    name = rest[position:]
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    if name:
        material.picture = name


def _uncommented(text: str) -> str:
    """Without what follows a number sign that a blank stands before; one inside a name belongs to it."""
    signs = (place for place in range(1, len(text)) if text[place] == "#" and text[place - 1].isspace())
    return text[: next(signs, len(text))].rstrip()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
