"""A glTF file into parts: every primitive of every mesh, where the scene has it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from kiss3d_cli.geometry.io.gltf.document import Document, open_document
from kiss3d_cli.geometry.io.gltf.materials import Painter
from kiss3d_cli.geometry.io.gltf.primitives import Primitive, posed, read_primitive
from kiss3d_cli.geometry.io.gltf.scene import Placed, Scene, read_scene
from kiss3d_cli.geometry.io.part import Part
from kiss3d_cli.geometry.io.source import Source


def read_gltf(source: Source) -> list[Part]:
    """Read a GLB or GLTF: the file's scene in its rest pose.

    Raises:
        BadInput: damaged, no glTF 2.0, or an extension is required that kiss3d does not read.
        Missing: its geometry is compressed, and the decoder is not installed.
    """
    document = open_document(source)
    scene, painter = read_scene(document), Painter(document)
    shared = _shared_positions(document)
    done: dict[tuple[Any, ...], list[tuple[Primitive, Part]]] = {}
    parts: list[Part] = []
    for placed in scene.placed:
        mesh = document.entry("meshes", placed.mesh)
        weights = document.array(mesh, "weights") if placed.weights is None else placed.weights
        key = (placed.mesh, repr(weights))
        if key not in done:
            entries = _primitives(document, mesh)
            done[key] = [_base(document, painter, entry, weights, shared) for entry in entries]
        for primitive, part in done[key]:
            parts += _placed_parts(document, scene, placed, primitive, part)
    if document.array(document.root, "animations"):
        source.note("it is animated: the pose at rest is taken")
    return _whole_colors(source, painter, [part for part in parts if len(part.vertices)])


def _primitives(document: Document, mesh: dict[str, Any]) -> list[dict[str, Any]]:
    entries = document.array(mesh, "primitives")
    if any(not isinstance(entry, dict) for entry in entries):
        raise document.wrong("a primitive is not an object")
    return entries


def _shared_positions(document: Document) -> set[Any]:
    """Accessors that are the positions of several primitives, each of which uses some of them."""
    uses: Counter[Any] = Counter()
    for index in range(document.count("meshes")):
        for entry in _primitives(document, document.entry("meshes", index)):
            position = document.object(entry, "attributes").get("POSITION")
            uses[position if type(position) is int else None] += 1
    return {accessor for accessor, count in uses.items() if count > 1}


def _base(
    document: Document, painter: Painter, entry: dict[str, Any], weights: list[Any], shared: set[Any]
) -> tuple[Primitive, Part]:
    """A primitive with its colours, in its mesh's frame."""
    primitive = read_primitive(document, entry, weights)
    position = document.object(entry, "attributes")["POSITION"]
    if len(primitive.faces) and position in shared:
        used, faces = np.unique(primitive.faces, return_inverse=True)
        primitive.positions, primitive.faces = primitive.positions[used], faces.reshape(-1, 3)
        primitive.attributes = {name: values[used] for name, values in primitive.attributes.items()}
    colors = painter.colors(primitive) if len(primitive.faces) or "COLOR_0" in primitive.attributes else None
    return primitive, Part(primitive.positions, primitive.faces, colors)


def _placed_parts(document: Document, scene: Scene, placed: Placed, primitive: Primitive, part: Part) -> list[Part]:
    """The part as the scene has it: moved by its node, several times, or by its joints instead."""
    if placed.skin is not None and "JOINTS_0" in primitive.attributes:
        positions, mirrored = posed(document, primitive, scene.joints(placed.skin))
        return [Part(positions, part.faces[:, ::-1] if mirrored else part.faces, part.colors)]
    moved = len(placed.matrices)
    document.source.claim(moved * len(part.vertices), 48, "vertices")
    document.source.claim(moved * len(part.faces), 48, "faces")
    document.source.claim(moved, 500, "instances")
    return [part.moved(matrix) for matrix in placed.matrices]


def _whole_colors(source: Source, painter: Painter, parts: list[Part]) -> list[Part]:
    """What has no material is white where something else has colours: that is glTF's default material."""
    surfaces = [part for part in parts if len(part.faces)]
    if not painter.complete:
        return [Part(part.vertices, part.faces) for part in parts]
    if not source.textures or all(part.colors is None for part in surfaces):
        return parts
    return [
        Part(part.vertices, part.faces, np.ones((len(part.vertices), 3))) if part.colors is None else part
        for part in parts
    ]
