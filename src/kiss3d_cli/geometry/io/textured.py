"""A mesh of ours read back with its texture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kiss3d_cli.geometry.io.gltf.document import open_document
from kiss3d_cli.geometry.io.gltf.materials import Painter
from kiss3d_cli.geometry.io.gltf.primitives import read_primitive
from kiss3d_cli.geometry.io.picture import NoPicture
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.topology import weld
from kiss3d_cli.geometry.texture.texture import Texture


def read_textured_glb(path: Path) -> tuple[Mesh, Texture] | None:
    """A GLB written by `write_mesh`, with its texture; None if it has none. Vertices are split at seams.

    Raises:
        BadInput: the file is damaged, or holds more than one mesh.
    """
    document = open_document(Source(path, alone=True))
    entries = document.array(document.entry("meshes", 0), "primitives")
    if document.count("meshes") != 1 or len(entries) != 1 or not isinstance(entries[0], dict):
        raise document.wrong("it is not one mesh of one part")
    primitive = read_primitive(document, entries[0], [])
    try:
        pixels = Painter(document).picture(primitive)
    except NoPicture as error:
        raise document.wrong(f"its texture {error}") from error
    uv = primitive.attributes.get("TEXCOORD_0")
    if pixels is None or uv is None:
        return None
    if uv.shape[1] != 2 or not all(np.isfinite(values).all() for values in (uv, primitive.positions)):
        raise document.wrong("its positions or texture coordinates are not finite numbers")
    faces = torch.from_numpy(primitive.faces)
    mesh = Mesh(torch.from_numpy(primitive.positions.astype(np.float32)), faces)
    return mesh, Texture(torch.from_numpy(uv.astype(np.float32)), faces, torch.from_numpy(pixels.copy()))


def without_seams(mesh: Mesh) -> Mesh:
    """The mesh with one vertex where seams of its texture have several; its faces stay in their order."""
    number = weld(mesh.vertices.double().numpy())
    one_of = np.zeros(int(number.max(initial=-1)) + 1, np.int64)
    one_of[number] = np.arange(len(number))
    return Mesh(mesh.vertices[torch.from_numpy(one_of)], torch.from_numpy(number)[mesh.faces])
