"""Draws pictures of random objects, for results that nobody has tuned anything to.

    python scripts/draw_unseen.py --seeds 0 1 2 --out pictures

The objects are those of `training/procedural.py`, one for each seed, whatever comes out: `object-0.png` and so on,
768 x 768 with an alpha channel, seen by the bundle's front camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, bundle_cameras
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals
from kiss3d_cli.training.procedural import draw_object
from make_gallery import framed

SIZE = 768
SMOOTH = 2


def picture(mesh: Mesh) -> Image.Image:
    """The front of a coloured mesh, lit from the upper left."""
    mesh = framed(mesh)
    camera, fine = bundle_cameras(BUNDLE_RADIUS)[[0]], (SIZE * SMOOTH, SIZE * SMOOTH)
    colors, normals = render_colors(mesh, camera, fine), render_normals(mesh, camera, fine)
    light = torch.nn.functional.normalize(torch.tensor([-0.45, 0.6, 0.9]), dim=0)
    shade = 0.5 + 0.6 * (normals.normals @ light).clamp_min(0)
    mask = normals.mask[..., None].float()
    rgba = torch.cat([(colors.colors * shade[..., None]).clamp(0, 1) * mask, mask], -1).permute(0, 3, 1, 2)
    rgba = torch.nn.functional.avg_pool2d(rgba, SMOOTH)[0].permute(1, 2, 0)
    rgb = rgba[..., :3] / rgba[..., 3:].clamp_min(1 / 255)
    return Image.fromarray((torch.cat([rgb, rgba[..., 3:]], -1) * 255).round().to(torch.uint8).numpy(), "RGBA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one object for each")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="the folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        path = options.out / f"object-{seed}.png"
        picture(draw_object(np.random.default_rng(seed))).save(path)
        print(path)


if __name__ == "__main__":
    main()
