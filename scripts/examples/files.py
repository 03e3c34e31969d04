"""One example from shape to files: fitted into the frame, traced, meshed, written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.geometry.extract.flexicubes import isosurface
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.surface.manifold import face_components, find_defects

from .clutter import cluttered
from .field import Field, extent, project, resampled, sampled, surface
from .render import bundle, picture
from .sdf import Shape

LONGEST_SIDE = 1.9
REACH = 1.0
JPEG_QUALITY = 86


@dataclass(frozen=True)
class Sizes:
    """How fine the files are.

    Attributes:
        picture: side of the picture in pixels.
        tile: side of a bundle tile in pixels.
        field: points along a side of the grid that rays are led by.
        grid: points along a side of the grid that the mesh is extracted from.
        faces: of the mesh, at most.
    """

    picture: int = 768
    tile: int = 512
    field: int = 128
    grid: int = 208
    faces: int = 14_000


def fitted(shape: Shape) -> Shape:
    """Centred, its longest side LONGEST_SIDE."""
    low, high = extent(shape)
    center = (low + high) / 2
    return shape.at(*(-center).tolist()).scaled(LONGEST_SIDE / float((high - low).max()))


def extract(field: Field, grid: int, faces: int) -> Mesh:
    """A closed manifold of one piece with the shape's colours; vertices on its surface.

    Quadric edge collapse (Garland and Heckbert 1997) takes it from the grid's resolution to the number of faces.
    """
    values = resampled(field, grid).permute(2, 1, 0).contiguous()
    fine = _without_cavities(isosurface(values, (-field.reach,) * 3, (field.reach,) * 3))
    coarse = decimate(Mesh(_on_surface(field, fine.vertices), fine.faces), faces)
    vertices, triangles = _on_surface(field, coarse.vertices), coarse.faces
    _, paint = surface(field.shape, vertices.T.contiguous())
    mesh = Mesh(vertices, triangles, paint[:3].T.clamp(0, 1).contiguous())
    if not find_defects(mesh.faces).is_closed_manifold:
        raise RuntimeError("the mesh is not a closed manifold")
    return mesh


def _without_cavities(mesh: Mesh) -> Mesh:
    """The outer surface of a solid of one piece; hollows that nobody sees are filled."""
    component = face_components(mesh.faces)
    corners = mesh.vertices[mesh.faces]
    volume = torch.linalg.det(corners.double()) / 6
    total = torch.zeros(int(component.max()) + 1, dtype=torch.float64).index_add(0, component, volume)
    if int((total > 0).sum()) != 1 or total[0] <= 0:
        places = [corners[component == piece].mean((0, 1)).tolist() for piece in range(len(total))]
        raise RuntimeError(f"the object falls into pieces, of volumes {total.tolist()} at {places}")
    used, faces = torch.unique(mesh.faces[component == 0], return_inverse=True)
    return Mesh(mesh.vertices[used], faces)


def _on_surface(field: Field, vertices: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Vertices moved onto the surface; one that would have to go over half a cell (at a crease) stays."""
    moved = project(field.shape, vertices.T.contiguous(), rounds=2).T
    near = (moved - vertices).norm(dim=1, keepdim=True) < 0.5 * field.cell
    return torch.where(near, moved, vertices).contiguous()


def make_example(name: str, shape: Shape, folder: Path, seed: int, sizes: Sizes | None = None) -> None:
    """Writes picture.png, cluttered.jpg, bundle.png and mesh.ply; the same bytes every time."""
    sizes = Sizes() if sizes is None else sizes
    field = sampled(fitted(shape), REACH, sizes.field)
    views = bundle(field, sizes.tile)
    _check_frame(views, name)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    front = picture(field, sizes.picture)
    Image.fromarray(_bytes(front)).save(target / "picture.png", optimize=True)
    photo = _bytes(cluttered(field, front, seed))
    Image.fromarray(photo).save(target / "cluttered.jpg", quality=JPEG_QUALITY, optimize=True)
    Image.fromarray(_bytes(views)).save(target / "bundle.png", optimize=True)
    write_mesh(target / "mesh.ply", extract(field, sizes.grid, sizes.faces))


def _check_frame(views: Float[Tensor, "H W 3"], name: str) -> None:
    """No view is cut off by its tile."""
    tile = views.shape[0] // 2
    for view, normals in enumerate(views[tile:].chunk(4, dim=1)):
        covered = (normals < 1).any(-1)
        if bool(covered[[0, -1]].any() | covered[:, [0, -1]].any()):
            raise RuntimeError(f"{name}: view {view} of the bundle leaves the frame")


def _bytes(image: Float[Tensor, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    return image.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
