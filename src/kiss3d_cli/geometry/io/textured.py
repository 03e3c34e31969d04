"""A mesh of ours read back with its texture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.texture.texture import Texture


def read_textured_glb(path: Path) -> tuple[Mesh, Texture] | None:
    """A GLB written by `write_mesh`, with its texture; None if it has none. Vertices are split at seams.

    Raises:
        BadInput: the file is damaged.
    """
    import trimesh  # slow to import

    try:
        scene = trimesh.load_scene(io.BytesIO(path.read_bytes()), file_type="glb", process=False)
        (found,) = scene.geometry.values()
        uv = getattr(found.visual, "uv", None)
        image: Any = getattr(getattr(found.visual, "material", None), "baseColorTexture", None)
        if uv is None or not isinstance(image, Image.Image):
            return None
        faces = torch.from_numpy(np.array(found.faces, dtype=np.int64))
        mesh = Mesh(torch.from_numpy(np.array(found.vertices, dtype=np.float32)), faces)
        upright = np.array(uv, dtype=np.float32) * [1, -1] + [0, 1]  # trimesh turns v around
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    except MemoryError:
        raise
    except Exception as error:  # trimesh's readers raise whatever the damage leads to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"the mesh can't be read ({reason})", place=path.name) from error
    return mesh, Texture(torch.from_numpy(upright.astype(np.float32)), faces, pixels)


def without_seams(mesh: Mesh) -> Mesh:
    """The mesh with one vertex where seams of its texture have several; its faces stay in their order."""
    vertices, index = mesh.vertices.unique(dim=0, return_inverse=True)
    return Mesh(vertices, index[mesh.faces])
