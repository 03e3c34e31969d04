"""COLLADA (1.4.1 and 1.5): the scene's polygons, in metres with y up."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.collada_mesh import ColladaMesh, read_mesh_element
from kiss3d_cli.geometry.io.collada_paint import Paint
from kiss3d_cli.geometry.io.numbers import NoNumber, parse
from kiss3d_cli.geometry.io.part import Part
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.io.xml import parse_xml

# to x right, y up, z towards the viewer (specification 1.4.1, up_axis)
_UP_AXES = {
    "X_UP": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "Y_UP": np.eye(3),
    "Z_UP": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
_DEEPEST = 200


@dataclass
class Collada:
    """A COLLADA file while it is read.

    Attributes:
        source: the file.
        root: its tree, without name spaces.
        named: its elements by their id.
    """

    source: Source
    root: ET.Element
    named: dict[str, ET.Element]
    meshes: dict[str, ColladaMesh] = field(default_factory=dict)

    def target(self, url: str | None, kind: str) -> ET.Element:
        """The element of a kind that a link names."""
        if url is not None and not url.startswith("#"):
            raise self.source.refuse(
                f"it names '{url[:60]}' in another file, which is not read", "export it as one file"
            )
        found = self.named.get((url or "#")[1:])
        if found is None or found.tag != kind:
            raise self.source.unreadable(f"it names a {kind} {(url or 'without a name')[:40]!r} that is not there")
        return found

    def numbers(self, element: ET.Element | None, count: int | None = None) -> Float[np.ndarray, " N"]:
        """The numbers in an element, `count` of them if it is given."""
        try:
            values = parse(("" if element is None else element.text or "").encode())
        except NoNumber as error:
            raise self.source.unreadable("an element holds something that is no number") from error
        if count is not None and len(values) != count:
            raise self.source.unreadable(f"an element holds {len(values)} numbers instead of {count}")
        return values


def read_dae(source: Source) -> list[Part]:
    """Read a COLLADA file's scene.

    Raises:
        BadInput: damaged, in several files, or with geometry that is no polygons (skins, morphs, splines).
    """
    root = parse_xml(source, source.data())
    if root.tag != "COLLADA":
        raise source.unreadable("it does not start with COLLADA")
    named: dict[str, ET.Element] = {}
    for element in root.iter():
        if "id" in element.attrib:
            named.setdefault(element.attrib["id"], element)
    document = Collada(source, root, named)
    parts: list[Part] = []
    for node in _scene_nodes(document):
        _walk(document, node, _frame(document), parts, 0)
    if not source.textures or all(part.colors is None for part in parts if len(part.faces)):
        return parts
    return [p if p.colors is not None else Part(p.vertices, p.faces, np.ones((len(p.vertices), 3))) for p in parts]


def _frame(document: Collada) -> Float[np.ndarray, "4 4"]:
    """From the file's unit and axes to metres with y up."""
    asset = document.root.find("asset")
    unit = None if asset is None else asset.find("unit")
    axis = (None if asset is None else asset.findtext("up_axis")) or "Y_UP"
    try:
        scale = float("1" if unit is None else unit.get("meter", "1"))
    except ValueError:
        scale = 0.0
    if axis.strip() not in _UP_AXES or not (np.isfinite(scale) and scale > 0):
        given = "1" if unit is None else unit.get("meter", "1")
        raise document.source.unreadable(f"its unit ({given[:20]!r} m) or its upward axis ({axis[:20]!r}) is none")
    if scale != 1 or axis.strip() != "Y_UP":
        text = f"it is read in metres with y up (the file has a unit of {scale:g} m and {axis.strip()})"
        document.source.note(text)
    frame = np.eye(4)
    frame[:3, :3] = scale * _UP_AXES[axis.strip()]
    return frame


def _scene_nodes(document: Collada) -> list[ET.Element]:
    instance = document.root.find("scene/instance_visual_scene")
    if instance is not None:
        return document.target(instance.get("url"), "visual_scene").findall("node")
    scenes = document.root.findall("library_visual_scenes/visual_scene")
    return scenes[0].findall("node") if scenes else []


def _walk(document: Collada, node: ET.Element, above: Float[np.ndarray, "4 4"], parts: list[Part], depth: int) -> None:
    source = document.source
    if depth > _DEEPEST:
        raise source.unreadable("its nodes contain each other, or more than 200 of each other")
    source.claim(1, 1000, "nodes")
    world = above @ _local(document, node)
    for child in node:
        if child.tag == "node":
            _walk(document, child, world, parts, depth + 1)
        elif child.tag == "instance_node":
            _walk(document, document.target(child.get("url"), "node"), world, parts, depth + 1)
        elif child.tag == "instance_geometry":
            parts += _instance(document, child, world)
        elif child.tag == "instance_controller":
            hint = "apply the armature or shape keys and export it again, or export it as GLB, whose pose is read"
            raise source.refuse("it has skins or morph targets, which kiss3d does not read in COLLADA", hint)


def _instance(document: Collada, instance: ET.Element, world: Float[np.ndarray, "4 4"]) -> list[Part]:
    source, url = document.source, instance.get("url") or ""
    if url not in document.meshes:
        document.meshes[url] = _geometry(document, url)
    found = document.meshes[url]
    source.claim(len(found.vertices), 48, "vertices")
    source.claim(len(found.faces), 48, "faces")
    part = Part(found.vertices, found.faces)
    if source.textures:
        part = Paint(document, instance).painted(found)
    return [part.moved(world)]


def _geometry(document: Collada, url: str) -> ColladaMesh:
    geometry = document.target(url, "geometry")
    mesh = geometry.find("mesh")
    if mesh is None:
        kind = next((child.tag for child in geometry if child.tag not in ("asset", "extra")), "nothing")
        raise document.source.refuse(f"a geometry of it is {kind[:30]}, which kiss3d does not read", "export polygons")
    return read_mesh_element(document, mesh)


def _local(document: Collada, node: ET.Element) -> Float[np.ndarray, "4 4"]:
    """The node's transforms, one after the other."""
    total = np.eye(4)
    for child in node:
        matrix = np.eye(4)
        if child.tag == "matrix":
            matrix = document.numbers(child, 16).reshape(4, 4)
        elif child.tag == "translate":
            matrix[:3, 3] = document.numbers(child, 3)
        elif child.tag == "scale":
            matrix[:3, :3] = np.diag(document.numbers(child, 3))
        elif child.tag == "rotate":
            matrix[:3, :3] = _rotation(document.numbers(child, 4))
        elif child.tag in ("skew", "lookat"):
            cause = f"a node is moved by <{child.tag}>, which kiss3d does not read"
            raise document.source.refuse(cause, "apply the transforms and export it again")
        else:
            continue
        total = total @ matrix
    return total


def _rotation(values: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Around an axis by degrees (Rodrigues)."""
    length = np.linalg.norm(values[:3])
    if not length > 0:
        return np.eye(3)
    x, y, z = values[:3] / length
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(values[3])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
