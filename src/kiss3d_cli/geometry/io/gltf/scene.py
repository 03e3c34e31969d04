"""The nodes of a glTF scene: where each mesh stands, how often, in which pose and with which morph weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from kiss3d_cli.geometry.io.gltf.accessors import read_accessor
from kiss3d_cli.geometry.io.gltf.document import Document


@dataclass(frozen=True)
class Placed:
    """A mesh as a node has it.

    Attributes:
        mesh: its index.
        matrices: (K, 4, 4) from the mesh to the scene, one for each time it is there.
        skin: index of the skin that moves it instead, or None.
        weights: of its morph targets, if the node says them.
    """

    mesh: Any
    matrices: Float[np.ndarray, "K 4 4"]
    skin: Any
    weights: list[Any] | None


@dataclass
class Scene:
    """The nodes of the file's scene.

    Attributes:
        placed: every mesh that is there: parents before children, and of those the last first (the order that gives
            a scene the digest it always had).
    """

    document: Document
    placed: list[Placed] = field(default_factory=list)
    _world: dict[int, Float[np.ndarray, "4 4"]] = field(default_factory=dict)

    def joints(self, skin: Any) -> Float[np.ndarray, "J 4 4"]:
        """The matrices from a skin's mesh to the scene, in the pose that the nodes have (section 3.7.3)."""
        entry = self.document.entry("skins", skin)
        nodes = self.document.array(entry, "joints")
        if not nodes:
            raise self.document.wrong(f"skins[{skin}] has no joints")
        for node in nodes:
            if type(node) is not int or node not in self._world:
                raise self.document.wrong(f"skins[{skin}] has a joint that is not in the scene")
        world = np.stack([self._world[node] for node in nodes])
        if "inverseBindMatrices" not in entry:
            return world
        inverse = read_accessor(self.document, entry["inverseBindMatrices"], (16,), "matrices").astype(np.float64)
        if len(inverse) < len(nodes):
            raise self.document.wrong(f"skins[{skin}] has fewer matrices than joints")
        return world @ inverse[: len(nodes)].reshape(-1, 4, 4).transpose(0, 2, 1)


def read_scene(document: Document) -> Scene:
    """Walk through the file's scene; without one, through all nodes that have no parent.

    Raises:
        BadInput: the nodes are no trees, or a transform is not one.
    """
    scene = Scene(document)
    count = document.count("nodes")
    children = [document.array(document.entry("nodes", index), "children") for index in range(count)]
    below = {child for row in children for child in row if type(child) is int}
    every = [index for index in range(count) if index not in below]
    roots: list[Any] = every
    if document.count("scenes"):
        roots = document.array(document.entry("scenes", document.root.get("scene", 0)), "nodes")
    seen: set[int] = set()
    for start, shown in ((roots, True), (every, False)):  # joints may be outside of the scene
        stack = [(node, np.eye(4), shown) for node in start]
        while stack:
            index, above, visible = stack.pop()
            node = document.entry("nodes", index)
            if index in seen:
                if shown:
                    raise document.wrong(f"nodes[{index}] is in its scene twice, or is its own child")
                continue
            seen.add(index)
            hidden = document.extension(node, "KHR_node_visibility") or {}
            visible = visible and hidden.get("visible") is not False
            world = above @ _local(document, node, index)
            scene._world[index] = world
            if visible and "mesh" in node:
                weights = document.array(node, "weights") if "weights" in node else None
                scene.placed.append(Placed(node["mesh"], _instances(document, node, world), node.get("skin"), weights))
            stack += [(child, world, visible) for child in children[index]]
    return scene


def _local(document: Document, node: dict[str, Any], index: Any) -> Float[np.ndarray, "4 4"]:
    if "matrix" in node:
        return document.numbers(node, "matrix", np.eye(4).ravel().tolist()).reshape(4, 4).T
    move = document.numbers(node, "translation", [0.0, 0.0, 0.0])
    turn = document.numbers(node, "rotation", [0.0, 0.0, 0.0, 1.0])
    scale = document.numbers(node, "scale", [1.0, 1.0, 1.0])
    if not np.linalg.norm(turn) > 0:
        raise document.wrong(f"nodes[{index}] has a rotation that is none")
    return _matrices(move[None], turn[None], scale[None])[0]


def _matrices(
    move: Float[np.ndarray, "K 3"], turn: Float[np.ndarray, "K 4"], scale: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, "K 4 4"]:
    """Translation times rotation (a quaternion x, y, z, w) times scale."""
    x, y, z, w = (turn / np.linalg.norm(turn, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices = np.zeros((len(move), 4, 4))
    matrices[:, :3, :3] = np.stack([np.stack(row, -1) for row in rows], 1) * scale[:, None]
    matrices[:, :3, 3] = move
    matrices[:, 3, 3] = 1
    return matrices


def _instances(document: Document, node: dict[str, Any], world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "K 4 4"]:
    """One matrix, or one for each instance (EXT_mesh_gpu_instancing)."""
    extension = document.extension(node, "EXT_mesh_gpu_instancing")
    if extension is None:
        return world[None]
    attributes = document.object(extension, "attributes")
    given = {
        name: read_accessor(document, attributes[name], (width,), f"instances' {name}").astype(np.float64)
        for name, width in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3))
        if name in attributes
    }
    counts = {len(values) for values in given.values()}
    if len(counts) != 1:
        raise document.wrong("its instances have no transforms, or not the same number of each kind")
    count = counts.pop()
    document.source.claim(count, 400, "instances")
    move = given.get("TRANSLATION", np.zeros((count, 3)))
    turn = given.get("ROTATION", np.tile([0.0, 0, 0, 1], (count, 1)))
    scale = given.get("SCALE", np.ones((count, 3)))
    if not (np.linalg.norm(turn, axis=1) > 0).all():
        raise document.wrong("an instance has a rotation that is none")
    return world @ _matrices(move, turn, scale)
