"""Any mesh file as a model, with its texture where the file has one that covers it whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.export.model import Model, welded
from kiss3d_cli.export.targets import Axis
from kiss3d_cli.geometry.io.load import read_geometry
from kiss3d_cli.geometry.io.source import Source
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture

_TEXTURED = (".glb", ".gltf", ".obj")
_MOST_PIXELS = 8192 * 8192


def read_model(path: Path, up: Axis = "y") -> tuple[Model, tuple[str, ...]]:
    """The mesh of a file, and sentences on what was left out of it.

    kiss3d's own reader says what the shape is. A texture is taken where trimesh, which knows texture coordinates, finds
    one picture on one mesh with the same corners in the same order; else materials become colours of the vertices.

    Args:
        path: a mesh.
        up: its upward axis, for a format that does not state one; with z up, the front looks along -y.

    Raises:
        BadInput: as `read_geometry`, and a file without faces.
        OutOfMemory: it does not fit.
    """
    found = read_geometry(path)
    if found.mesh is None:
        raise BadInput("there are no faces in it, only points", place=str(path), hint="give a mesh with a surface")
    painted = _texture(path, found.mesh) if path.suffix.lower() in _TEXTURED else None
    if painted is not None:
        mesh, texture, notes = welded(Mesh(found.mesh.vertices, found.mesh.faces)), painted, found.notes
    else:
        colored = read_geometry(path, textures=True)
        assert colored.mesh is not None
        mesh, texture, notes = colored.mesh, None, colored.notes
        if mesh.colors is None:
            mesh = welded(mesh)
    if up == "z":
        x, y, z = mesh.vertices.unbind(1)
        mesh = mesh.with_vertices(torch.stack([x, z, -y], 1))
    return Model(mesh, texture), notes


def _texture(path: Path, mesh: Mesh) -> Texture | None:
    """The one texture of a file, in the order of the mesh's faces; None if it has none, several, or parts without."""
    import trimesh  # slow to import
    from trimesh.resolvers import Resolver

    class Beside(Resolver):  # type: ignore[misc]  # trimesh has no types
        """Files that the mesh names, by the rules of kiss3d's own reader."""

        def __init__(self) -> None:
            pass

        def get(self, name: str) -> bytes:
            return source.beside(name, percent=path.suffix.lower() == ".gltf")

        def keys(self) -> list[str]:
            return []

        def namespaced(self, _namespace: str) -> Beside:
            return self

        def write(self, name: str, data: Any) -> None:
            raise NotImplementedError

    source, beside, kind = Source(path), Beside(), path.suffix.lower()[1:]
    try:
        scene = trimesh.load_scene(io.BytesIO(source.data()), file_type=kind, resolver=beside, process=False)
        (only,) = scene.geometry.values()
        material = only.visual.material
        image: Any = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        uv, corners = np.asarray(only.visual.uv, np.float64), np.asarray(only.faces, np.int64)
        places = np.asarray(only.vertices, np.float64)[corners]
        if not isinstance(image, Image.Image) or image.width * image.height > _MOST_PIXELS:
            return None
        pixels = _rgb(image, getattr(material, "baseColorFactor", None))
    except MemoryError:
        raise
    except Exception:  # trimesh raises whatever a file leads it to; the mesh itself was read already
        return None
    exact = mesh.vertices[mesh.faces].double().numpy()
    if places.shape != exact.shape or not np.allclose(places, exact, rtol=0, atol=1e-6 * max(1, np.abs(exact).max())):
        return None
    if uv.shape != (len(only.vertices), 2) or not np.isfinite(uv).all() or uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        return None  # a picture that is repeated has no place of its own for every face
    down = (uv * [1, -1] + [0, 1]).clip(0, 1)  # trimesh has v upwards
    return Texture(torch.from_numpy(down.astype(np.float32)), torch.from_numpy(corners), torch.from_numpy(pixels))


def _rgb(image: Image.Image, factor: Any) -> np.ndarray:
    if factor is not None and (np.asarray(factor[:3]) != 255).any():
        raise ValueError("a tinted texture")  # its colours are multiplied in linear light: the exact reader does it
    return np.array(image.convert("RGB"))
