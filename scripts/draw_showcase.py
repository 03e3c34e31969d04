"""Draws the pictures that the README shows results of: objects that no method was chosen or tuned with.

    python scripts/draw_showcase.py --out pictures
    for name in penguin lighthouse cupcake goldfish; do kiss3d run pictures/$name.jpg --preset draft --name $name; done
    python scripts/make_gallery.py outputs/{penguin,lighthouse,cupcake,goldfish}-*/refine/mesh.glb \\
        --pictures pictures/{penguin,lighthouse,cupcake,goldfish}.jpg --azimuths 0 90 180 270 --out docs/unseen.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from examples.field import sampled
from examples.files import REACH, fitted
from examples.showcase import SHOWCASE, photographed

SIZE = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SHOWCASE), default=list(SHOWCASE), help="which objects")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="the folder to write to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        image = photographed(sampled(fitted(SHOWCASE[name]()), REACH), SIZE)
        pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(options.out / f"{name}.jpg", quality=92)
        print(options.out / f"{name}.jpg", flush=True)


if __name__ == "__main__":
    main()
