"""Colours of the textured spot, taken from four ray-cast pictures of it and shown again.

    python scripts/bench/texture.py --shared ../shared [--out DIR] [--faces 50000]

Prints Markdown tables: PSNR against the four pictures inside the mask, for the baked texture and for vertex colours,
the time of each step, and what the Khronos glTF validator says (npm's gltf-validator, found through NODE_PATH).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from ground_truth import add_shared, load_caster
from PIL import Image
from torch import Tensor

from kiss3d_cli.geometry.cameras import View, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_texture
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.texture.bake import bake
from kiss3d_cli.geometry.texture.charts import unwrap
from kiss3d_cli.geometry.texture.project import Photographs, project_colors

SIDE = 512
VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


def photographs(spot: trimesh.Trimesh, picture: Tensor, caster: object) -> Photographs:
    """One ray for each pixel, the texture filtered bilinearly."""
    uv = np.asarray(spot.visual.uv)
    body = caster.normalise(trimesh.Trimesh(spot.vertices, spot.faces, process=False))
    images, masks = [], []
    for view in View:
        eye, rotation = caster.cam(view.azimuth, 5.0, 4.15)
        steps = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1) * np.tan(np.deg2rad(15))
        x, y = np.meshgrid(steps, -steps)
        rays = np.stack([x, y, -np.ones_like(x)], -1).reshape(-1, 3) @ rotation
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        origins = np.broadcast_to(eye, rays.shape).copy()
        places, ray, face = body.ray.intersects_location(origins, rays, multiple_hits=False)
        weights = trimesh.triangles.points_to_barycentric(body.triangles[face], places)
        at = (uv[body.faces[face]] * weights[..., None]).sum(1) * [2, -2] + [-1, 1]
        grid = torch.tensor(at, dtype=torch.float32)[None, None]
        colors = torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        image, mask = torch.ones(SIDE * SIDE, 3), torch.zeros(SIDE * SIDE, dtype=torch.bool)
        image[ray], mask[ray] = colors[0, :, 0].T, True
        images.append(image.reshape(SIDE, SIDE, 3))
        masks.append(mask.reshape(SIDE, SIDE))
    weights = torch.tensor([1, 0.5, 1, 0.5])
    return Photographs(bundle_cameras(), torch.stack(images), torch.stack(masks), weights)


def surface(shared: Path, caster: object, faces: int) -> Mesh:
    """Spot without its texture seams, with about that many faces."""
    spot = trimesh.load(shared / "data" / "meshes" / "spot.obj", force="mesh", process=True)
    spot.merge_vertices(merge_tex=True, merge_norm=True)
    spot = caster.normalise(spot)
    while len(spot.faces) < faces:
        spot = spot.subdivide()
    vertices, triangles = torch.tensor(spot.vertices, dtype=torch.float32), torch.tensor(spot.faces.astype(np.int64))
    return decimate(Mesh(vertices, triangles), faces)


def psnr(shown: Tensor, taken: Photographs) -> str:
    errors = [(shown[view] - taken.images[view])[taken.masks[view]].square().mean() for view in View]
    every = (shown - taken.images)[taken.masks].square().mean()
    return " | ".join(f"{-10 * torch.log10(error):.1f}" for error in [*errors, every])


def validate(file: Path) -> str:
    node = shutil.which("node")
    if node is None:
        return "not run: node is not installed"
    ran = subprocess.run([node, "-e", VALIDATE, str(file)], capture_output=True, text=True, env=os.environ, check=False)
    if ran.returncode:
        return "not run: npm's gltf-validator is not on NODE_PATH"
    issues = json.loads(ran.stdout)
    return f"{issues['numErrors']} errors, {issues['numWarnings']} warnings, {issues['numInfos']} notes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared(parser)
    parser.add_argument("--out", type=Path, help="keep the files and pictures here")
    parser.add_argument("--faces", type=int, default=50_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    caster = load_caster(options.shared)
    folder = options.shared / "data" / "meshes"
    spot = trimesh.load(folder / "spot.obj", force="mesh", process=False)
    pixels = np.asarray(Image.open(folder / "spot_texture.png").convert("RGB"))
    taken = photographs(spot, torch.tensor(pixels).permute(2, 0, 1)[None] / 255, caster)
    mesh = surface(options.shared, caster, options.faces)
    times = [time.perf_counter()]
    colored = mesh.with_colors(project_colors(mesh, taken))
    times.append(time.perf_counter())
    atlas = unwrap(mesh, taken.cameras)
    times.append(time.perf_counter())
    texture = bake(mesh, taken, atlas)
    times.append(time.perf_counter())
    size = (SIDE, SIDE)
    shown = render_texture(mesh, texture, taken.cameras, size, antialiased=False).colors
    plain = render_colors(colored, taken.cameras, size, antialiased=False).colors
    print(f"\n{len(mesh.faces)} faces, {atlas.charts} charts")
    print("\n| PSNR in dB | front | right | back | left | all |\n|---|---|---|---|---|---|")
    print(f"| texture 2048 px | {psnr(shown, taken)} |\n| vertex colours | {psnr(plain, taken)} |")
    print("\n| step | seconds |\n|---|---|")
    for name, start, end in zip(("vertex colours", "unwrap", "bake"), times, times[1:], strict=False):
        print(f"| {name} | {end - start:.1f} |")
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        print("\n| file | bytes | Khronos validator |\n|---|---|---|")
        for name, files in {
            "textured": write_mesh(out / "textured.glb", mesh, texture),
            "vertex colours": write_mesh(out / "colored.glb", colored),
        }.items():
            print(f"| {name} | {files[0].stat().st_size} | {validate(files[0])} |")
        others = orbit_cameras([45, 135, 225, 315], [30, -30, 30, -30])
        between = render_texture(mesh, texture, others, size).colors
        rows = [torch.cat(list(row), 1) for row in (taken.images, shown, between)]
        picture = (torch.cat(rows).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(picture).save(out / "views.png")


if __name__ == "__main__":
    main()
