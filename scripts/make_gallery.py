"""Draws meshes from four sides into one picture: a row a mesh, the given picture first.

python scripts/make_gallery.py outputs/mug-20260101-120000/refine/mesh.ply --out gallery.png
python scripts/make_gallery.py a.glb b.glb --pictures a.png b.png --azimuths 0 45 180 270 --size 300
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals, render_texture
from kiss3d_cli.geometry.texture.texture import Texture

CLAY = 0.78
"""The grey of a mesh without colours."""
LONGEST_SIDE = 1.9


def framed(mesh: Mesh) -> Mesh:
    """Centred, the longest side LONGEST_SIDE, so that every mesh fills its tile."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    return mesh.with_vertices((mesh.vertices - (low + high) / 2) * (LONGEST_SIDE / (high - low).max()))


def read_texture(path: Path, mesh: Mesh) -> Texture | None:
    """The texture of a GLB of one part, whose vertices are those of `mesh`; None if there is none."""
    if path.suffix.lower() != ".glb":
        return None
    visual = trimesh.load(path, force="mesh", process=False).visual
    image = getattr(getattr(visual, "material", None), "baseColorTexture", None)
    if image is None or len(visual.uv) != len(mesh.vertices):
        return None
    uv = torch.from_numpy(np.array(visual.uv, dtype=np.float32)) * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    return Texture(uv, mesh.faces, torch.from_numpy(np.array(image.convert("RGB"))))


def mesh_tiles(
    mesh: Mesh,
    azimuths: list[float],
    elevation: float,
    size: int,
    clay: bool = False,
    smooth: int = 2,
    texture: Texture | None = None,
) -> Float[Tensor, "V S S 3"]:
    """Views of a mesh on white, lit from the upper left of each camera; the mean of smooth^2 samples a pixel."""
    mesh = framed(mesh)
    if clay or (mesh.colors is None and texture is None):
        mesh = mesh.with_colors(torch.full_like(mesh.vertices, CLAY))
    cameras = orbit_cameras(azimuths, elevation)
    fine = (size * smooth, size * smooth)
    normals = render_normals(mesh, cameras, fine)
    textured = texture is not None and not clay
    colors = render_texture(mesh, texture, cameras, fine) if textured else render_colors(mesh, cameras, fine)
    light = torch.nn.functional.normalize(torch.tensor([-0.45, 0.6, 0.9]), dim=0)
    amount = 0.5 + 0.6 * (normals.normals @ light).clamp_min(0)
    image = colors.colors * torch.where(normals.mask > 0, amount, torch.ones_like(amount))[..., None]
    image = image.clamp(0, 1).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(image, smooth).permute(0, 2, 3, 1)


def picture_tile(path: Path, size: int) -> Float[Tensor, "S S 3"]:
    """A picture on white, fitted into a square."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size), (255, 255, 255, 255))
    canvas.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return torch.from_numpy(np.array(canvas.convert("RGB"))).float() / 255


def gallery(
    meshes: list[Path], pictures: list[Path], azimuths: list[float], elevation: float, size: int, clay: bool = False
) -> UInt8[np.ndarray, "H W 3"]:
    rows = []
    for index, path in enumerate(meshes):
        tiles = [picture_tile(pictures[index], size)] if pictures else []
        mesh = read_mesh(path)
        tiles += list(mesh_tiles(mesh, azimuths, elevation, size, clay, texture=read_texture(path, mesh)))
        rows.append(torch.cat(tiles, 1))
    return (torch.cat(rows, 0) * 255).round().to(torch.uint8).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", nargs="+", type=Path, help="OBJ, PLY, STL, GLB or GLTF, shown with their colours")
    parser.add_argument("--out", type=Path, default=Path("gallery.png"), help="the PNG to write")
    parser.add_argument("--pictures", nargs="+", type=Path, default=[], help="one for each mesh, put before its views")
    parser.add_argument("--azimuths", nargs="+", type=float, default=[0, 90, 180, 270], help="degrees, 0 is the front")
    parser.add_argument("--elevation", type=float, default=15, help="degrees")
    parser.add_argument("--size", type=int, default=384, help="pixels along the side of a tile")
    parser.add_argument("--clay", action="store_true", help="grey: the shape without its colours")
    options = parser.parse_args()
    if options.pictures and len(options.pictures) != len(options.meshes):
        parser.error(f"{len(options.meshes)} meshes need as many pictures, not {len(options.pictures)}")
    image = gallery(options.meshes, options.pictures, options.azimuths, options.elevation, options.size, options.clay)
    Image.fromarray(image).save(options.out, optimize=True)
    print(f"{options.out}: {image.shape[1]} x {image.shape[0]} pixels")


if __name__ == "__main__":
    main()
