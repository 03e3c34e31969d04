"""One model file of a 3MF, parsed as a stream: an XML tree would take twenty times its size."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.source import Source

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_UNDERSTOOD = {
    CORE,
    "http://schemas.microsoft.com/3dmanufacturing/material/2015/02",
    "http://schemas.microsoft.com/3dmanufacturing/production/2015/06",
    "http://schemas.microsoft.com/3dmanufacturing/trianglesets/2021/07",
}
_COLOR = re.compile(r"#([0-9A-Fa-f]{6})([0-9A-Fa-f]{2})?$")
_PATH = "http://schemas.microsoft.com/3dmanufacturing/production/2015/06 path"
_NO_GROUP = -1


class NotUnderstood(ValueError):
    """Why a model can't be read; `foreign` if it is well made, but of something else than meshes."""

    def __init__(self, reason: str, foreign: bool = False) -> None:
        super().__init__(reason)
        self.foreign = foreign


@dataclass
class Object:
    """A mesh or a set of components.

    Attributes:
        vertices: x, y, z of all of them.
        corners: the three vertices of all triangles.
        properties: four numbers for each triangle: its property group (or -1 for the object's own), and the place in
            it of each corner.
        group, place: the object's own.
    """

    vertices: array[float] = field(default_factory=lambda: array("d"))
    corners: array[int] = field(default_factory=lambda: array("q"))
    properties: array[int] = field(default_factory=lambda: array("q"))
    components: list[tuple[str, str, Float[np.ndarray, "4 4"]]] = field(default_factory=list)
    group: str | None = None
    place: int = 0


@dataclass
class Model:
    """What a model file holds; `bytes` is the memory that it takes, about."""

    name: str
    unit: str = "millimeter"
    objects: dict[str, Object] = field(default_factory=dict)
    items: list[tuple[str, str, Float[np.ndarray, "4 4"]]] = field(default_factory=list)
    groups: dict[str, list[tuple[float, float, float] | None]] = field(default_factory=dict)
    group_names: list[str] = field(default_factory=list)
    bytes: int = 0

    def corner_colors(self, found: Object, source: Source) -> Float[np.ndarray, "F 3 3"] | None:
        """sRGB-encoded colours of every corner; None where no property says one."""
        rows = np.array(found.properties, np.int64).reshape(-1, 4)
        own = found.group
        colors = np.full((len(rows), 3, 3), np.nan)
        for number in np.unique(rows[:, 0]).tolist():
            name = own if number == _NO_GROUP else self.group_names[number]
            if name is None:
                continue
            group = self.groups.get(name)
            if group is None or any(color is None for color in group):
                source.note("it has textures or mixed materials, which are not read; it is taken without colours")
                return None
            chosen = rows[:, 0] == number
            places = np.full((int(chosen.sum()), 3), found.place) if number == _NO_GROUP else rows[chosen, 1:]
            if len(group) == 0 or places.min() < 0 or places.max() >= len(group):
                source.note("a face names a colour that is not there; it is taken without colours")
                return None
            colors[chosen] = np.array(group, np.float64)[places]
        if np.isnan(colors).all():
            return None
        return np.where(np.isnan(colors), 1.0, colors)


class ModelReader:
    """Takes a model's text piece by piece."""

    def __init__(self, name: str) -> None:
        self.model = Model(name)
        self._object: Object | None = None
        self._group: list[tuple[float, float, float] | None] | None = None
        self._spaces: dict[str, str] = {}
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.StartNamespaceDeclHandler = self._space
        self._parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, piece: bytes) -> None:
        self._parser.Parse(piece, False)

    def close(self) -> None:
        self._parser.Parse(b"", True)

    def _doctype(self, *_: object) -> None:
        raise NotUnderstood("its XML declares a document type, which is never read")

    def _space(self, prefix: str | None, uri: str) -> None:
        self._spaces[prefix or ""] = uri

    def _start(self, name: str, given: dict[str, str]) -> None:
        _, _, name = name.rpartition(" ")
        handler = _HANDLERS.get(name)
        try:
            if handler is not None:
                handler(self, given)
        except KeyError as error:
            raise NotUnderstood(f"an element '{name}' lacks its {str(error)[:30]}") from error
        except ValueError as error:
            if isinstance(error, NotUnderstood):
                raise
            raise NotUnderstood(f"an element '{name}' has something that is no number") from error
        except OverflowError as error:
            raise NotUnderstood(f"an element '{name}' has a number that is too large") from error

    def _model(self, given: dict[str, str]) -> None:
        self.model.unit = given.get("unit", "millimeter")
        for prefix in given.get("requiredextensions", "").split():
            space = self._spaces.get(prefix, prefix)
            if space not in _UNDERSTOOD:
                raise NotUnderstood(f"requires the 3MF extension {space[:100]}, which kiss3d does not read", True)

    def _new_object(self, given: dict[str, str]) -> None:
        self.model.bytes += 1000
        self._object = self.model.objects[given["id"]] = Object(group=given.get("pid"))
        self._object.place = int(given.get("pindex", 0))

    def _current(self) -> Object:
        if self._object is None:
            raise NotUnderstood("geometry stands outside of an object")
        return self._object

    def _vertex(self, given: dict[str, str]) -> None:
        self._current().vertices.extend((float(given["x"]), float(given["y"]), float(given["z"])))
        self.model.bytes += 24

    def _triangle(self, given: dict[str, str]) -> None:
        found = self._current()
        found.corners.extend((int(given["v1"]), int(given["v2"]), int(given["v3"])))
        group = _NO_GROUP
        first = second = third = 0
        if "p1" in given:
            name = given.get("pid", found.group or "")
            if name not in self.model.group_names:
                self.model.group_names.append(name)
            group, first = self.model.group_names.index(name), int(given["p1"])
            second, third = int(given.get("p2", first)), int(given.get("p3", first))
        found.properties.extend((group, first, second, third))
        self.model.bytes += 56

    def _component(self, given: dict[str, str]) -> None:
        self.model.bytes += 500
        self._current().components.append((given.get(_PATH, ""), given["objectid"], _matrix(given)))

    def _item(self, given: dict[str, str]) -> None:
        self.model.bytes += 500
        self.model.items.append((given.get(_PATH, ""), given["objectid"], _matrix(given)))

    def _new_group(self, given: dict[str, str]) -> None:
        self._group = self.model.groups[given["id"]] = []

    def _other_group(self, given: dict[str, str]) -> None:
        self._group = None
        self.model.groups[given["id"]] = [None]

    def _color(self, given: dict[str, str]) -> None:
        self.model.bytes += 200
        if self._group is None:
            return
        match = _COLOR.match(given.get("displaycolor", given.get("color", "")).strip())
        value = None if match is None else tuple(int(match[1][i : i + 2], 16) / 255 for i in (0, 2, 4))
        self._group.append(value)  # type: ignore[arg-type]

    def _beams(self, given: dict[str, str]) -> None:
        raise NotUnderstood("holds a lattice of beams, which kiss3d does not read", bool(given) or True)


def _matrix(given: dict[str, str]) -> Float[np.ndarray, "4 4"]:
    """Row vectors times four rows of three numbers, as 3MF has it, for column vectors."""
    matrix = np.eye(4)
    if "transform" in given:
        values = np.array([float(word) for word in given["transform"].split()])
        if len(values) != 12:
            raise NotUnderstood("a transform is not twelve numbers")
        matrix[:3] = values.reshape(4, 3).T
    return matrix


_HANDLERS = {
    "model": ModelReader._model,
    "object": ModelReader._new_object,
    "vertex": ModelReader._vertex,
    "triangle": ModelReader._triangle,
    "component": ModelReader._component,
    "item": ModelReader._item,
    "basematerials": ModelReader._new_group,
    "colorgroup": ModelReader._new_group,
    "texture2dgroup": ModelReader._other_group,
    "compositematerials": ModelReader._other_group,
    "multiproperties": ModelReader._other_group,
    "base": ModelReader._color,
    "color": ModelReader._color,
    "beamlattice": ModelReader._beams,
}
