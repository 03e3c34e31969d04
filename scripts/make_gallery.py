"""Pictures and the meshes made of them, in one contact sheet: `python scripts/make_gallery.py RUN_DIR... --out sheet.png`.

Each row is a run: its input, then the textured mesh from four sides, lit from the camera.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals, render_texture
from kiss3d_cli.geometry.texture import Texture
from kiss3d_cli.imaging.views import to_bytes

SIDE = 320
AZIMUTHS, ELEVATIONS = (0.0, 45.0, 120.0, 200.0), (5.0, 20.0, 10.0, 20.0)
AMBIENT = 0.55


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="finished run folders")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery.png"))
    arguments = parser.parse_args()
    rows = [np.concatenate([input_picture(run), *views(run)], 1) for run in arguments.runs]
    sheet = Image.fromarray(np.concatenate(rows, 0)).quantize(256, method=Image.Quantize.MEDIANCUT)
    sheet.save(arguments.out, optimize=True)
    print(arguments.out)


def input_picture(run: Path) -> np.ndarray:
    name = json.loads((run / "run.json").read_text())["inputs"]["picture"]["path"]
    picture = Image.open(run / name).convert("RGBA")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (SIDE, SIDE), "white")
    tile.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2), picture)
    return np.asarray(tile)


def views(run: Path) -> list[np.ndarray]:
    """The mesh as other programs get it: read back from the GLB, texture and all."""
    solid = trimesh.load(run / "07-refine" / "mesh.glb", force="mesh")
    faces = torch.from_numpy(np.array(solid.faces, dtype=np.int64))
    mesh = Mesh(torch.from_numpy(np.array(solid.vertices, dtype=np.float32)), faces)
    image = np.asarray(solid.visual.material.baseColorTexture.convert("RGB"))
    uv = np.array(solid.visual.uv, dtype=np.float32) * [1, -1] + [0, 1]
    texture = Texture(torch.from_numpy(uv.astype(np.float32)), faces, torch.from_numpy(image.copy()))
    cameras = orbit_cameras(AZIMUTHS, ELEVATIONS)
    normals = torch.from_numpy(np.array(solid.vertex_normals, dtype=np.float32))
    shaded = render_normals(mesh, cameras, (SIDE, SIDE), normals)
    light = AMBIENT + (1 - AMBIENT) * shaded.normals[..., 2:].clamp(0, 1)
    mask = shaded.mask[..., None]
    colors = render_texture(mesh, texture, cameras, (SIDE, SIDE)).colors
    return list(to_bytes(colors * light * mask + (1 - mask)))


if __name__ == "__main__":
    main()
