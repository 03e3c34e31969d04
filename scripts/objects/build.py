"""Builds the set of objects that the prior's weights were trained on, from its public sources.

    git clone --depth 1 https://github.com/trebeljahr/quaternius-showcase sources/quaternius-showcase    # and so on
    python scripts/objects/build.py --sources sources --out objects
    kiss3d train data --objects objects

Each folder in --sources is one set. Known sets, and the repositories they are cloned from:

    quaternius-showcase  trebeljahr/quaternius-showcase            models by Quaternius, CC0
    market-assets        pmndrs/market-assets                      those marked with licence 1, CC0
    KayKit-Dungeon, KayKit-City, KayKit-Restaurant, KayKit-Halloween, KayKit-SpaceBase, KayKit-Hexagon
                         the KayKit packs of Kay Lousberg          CC0
    FreeAssets-FBX       beep2bleep/FreeAssetsByKenneyNLandQuaternius   by Kenney and Quaternius, CC0
    bullet-random        bulletphysics/bullet3, data/random_urdfs  Zlib

Writes one zip file of `<id>.npz` for each set (`v` float16 vertices in [-1, 1], y up; `c` uint8 vertex colours, sRGB;
`f` uint16 faces, at most 5,000) and `index.json`. Copies, found by their bytes, are kept once. What can't be read is
named and left out. Formats that kiss3d does not read (FBX) have to be converted to glTF first.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.training.objects import SUFFIXES, normalised

FACES = 5000
FLAT = 0.05
"""Shortest side over the second longest: below it, a sheet or a plank."""
TINY = 60
"""Faces: below as many, a brick or a chip."""
LICENCES = {"bullet-random": "Zlib"}


def packed(mesh: Mesh) -> tuple[bytes, dict[str, Any]]:
    """The bytes of an object's npz file, the same for the same object, and what the index says of it."""
    if len(mesh.faces) > FACES:
        mesh = decimate(mesh, FACES)
    mesh = normalised(mesh, "object")
    colors = np.full((len(mesh.vertices), 3), 180, np.uint8)
    if mesh.colors is not None:
        colors = (mesh.colors.numpy() * 255).round().astype(np.uint8)
    arrays = {
        "v": mesh.vertices.numpy().astype(np.float16),
        "c": colors,
        "f": mesh.faces.numpy().astype(np.uint16),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    extents = (mesh.vertices.amax(0) - mesh.vertices.amin(0)).numpy() / 2
    sides = np.sort(extents)
    count = len(np.unique(colors, axis=0))
    facts = {
        "id": hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()[:10],
        "faces": len(mesh.faces),
        "colours": count,
        "flat": bool(sides[0] < FLAT * sides[1] or sides[1] < FLAT * 2 * sides[2]),
        "tiny": len(mesh.faces) < TINY,
        "recolour": mesh.colors is None,
        "extents": [round(float(side), 3) for side in extents],
    }
    return content.getvalue(), facts


def build(sources: Path, out: Path) -> dict[str, Any]:
    """Writes the zip files and the index; returns the index."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    names = sorted(path.name for path in sources.iterdir() if path.is_dir())
    for name in names:
        with zipfile.ZipFile(out / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:
            paths = (path for path in (sources / name).rglob("*") if path.suffix.lower() in SUFFIXES)
            for path in sorted(paths):
                try:
                    content, facts = packed(read_mesh(path))
                except Kiss3dError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    continue
                if facts["id"] in seen:
                    continue
                seen.add(facts["id"])
                archive.writestr(zipfile.ZipInfo(f"{facts['id']}.npz"), content)
                licence = LICENCES.get(name, "CC0-1.0")
                rows.append({"set": name, "name": path.name, "pack": path.parent.name, "licence": licence, **facts})
        print(f"{name}: {sum(row['set'] == name for row in rows)} objects", file=sys.stderr)
    index = {"sources": {name: name for name in names}, "objects": rows}
    (out / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, help="a folder of checked out repositories")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    build(options.sources, options.out)


if __name__ == "__main__":
    main()
