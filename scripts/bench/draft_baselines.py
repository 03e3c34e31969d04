"""The draft preset's surface against a sphere and a flat extrusion, on objects whose shape is known.

    python scripts/bench/draft_baselines.py
    python scripts/bench/draft_baselines.py --pipeline     # the whole preset, hull and refinement included

Each object is seen once from the bundle's front camera, framed as the preprocess stage frames it, and made into a
surface from that one picture. Chamfer distance and F-score in the `kiss3d` protocol without alignment, so a guess of
the wrong depth costs what it should. Prints a Markdown table.

The sphere is as wide as the picture's longer extent and stands where the picture's object does; the ellipsoid fills
the object's width and height in the picture and is as deep as it is wide; the extrusions are the silhouette itself,
straight through, thin (0.1 of the longer extent) and thick (0.25).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh

from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, FIELD_OF_VIEW, orbit_cameras
from kiss3d_cli.geometry.inflate.double_sheet import double_sheet
from kiss3d_cli.geometry.inflate.inflate import inflate, sample_coverage
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.image.framing import Framed, frame_foreground
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import write_png

ROOT = Path(__file__).parents[2]
LAUNCH = "from kiss3d_cli.cli.app import main; main()"
LONGEST = 1.9
"""Longest side of a ground truth's box, world units."""
SIDE = 2 * BUNDLE_RADIUS * math.tan(math.radians(FIELD_OF_VIEW / 2))
"""World units that a picture's side shows, in the middle of the object."""


@dataclass(frozen=True)
class Case:
    """An object: its name, its one picture cut out and framed, its true surface in the world frame."""

    name: str
    framed: Framed
    truth: Mesh

    @property
    def box(self) -> tuple[float, float, float, float]:
        """World width and height of the silhouette at z = 0, and the middle's x and y."""
        rows, columns = np.nonzero(self.framed.mask)
        size = len(self.framed.mask)
        unit = SIDE / size
        left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
        middle = (left + right - size) / 2 * unit, (size - top - bottom) / 2 * unit
        return (right - left) * unit, (bottom - top) * unit, *middle


def example_case(folder: Path) -> Case:
    picture = load_picture(folder / "picture.png")
    assert picture.alpha is not None
    return Case(folder.name, frame_foreground(picture.rgb, picture.alpha), read_mesh(folder / "mesh.ply"))


def mesh_case(path: Path) -> Case:
    """A mesh in its own frame, seen from its +z; grey, for only the silhouette matters."""
    mesh = read_mesh(path)
    low, high = mesh.vertices.min(0).values, mesh.vertices.max(0).values
    truth = Mesh((mesh.vertices - (low + high) / 2) * (LONGEST / (high - low).max()), mesh.faces)
    # a wider picture than the bundle's: an object near the camera is not cut off at the border
    wide = 42.0
    size = round(512 * math.tan(math.radians(wide / 2)) / math.tan(math.radians(FIELD_OF_VIEW / 2)))
    seen = render_normals(truth, orbit_cameras([0.0], fov=wide), (size, size))
    grey = (255 * (0.25 + 0.75 * seen.normals[0, ..., 2:].clamp(0, 1))).round().byte().expand(-1, -1, 3)
    alpha = (255 * seen.mask[0]).round().byte()
    return Case(path.stem, frame_foreground(grey.contiguous().numpy(), alpha.numpy()), truth)


def ellipsoid(case: Case, radii: tuple[float, float, float]) -> Mesh:
    ball = trimesh.creation.icosphere(5)
    _, _, x, y = case.box
    vertices = np.asarray(ball.vertices) * radii + [x, y, 0]
    return Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(np.asarray(ball.faces)).long())


def extrusion(case: Case, thickness: float) -> Mesh:
    """The silhouette straight through, its sides upright, `thickness` world units deep."""
    coverage = sample_coverage(torch.from_numpy(case.framed.rgba[..., 3] / 255), 256)
    sheet = double_sheet(coverage)
    pixels = coverage.shape[0] - 2
    flat = ((sheet.points - 1) / pixels - 0.5) * [SIDE, -SIDE]
    rim = sheet.side == 0
    vertices = np.concatenate(
        [
            np.column_stack([flat, np.where(rim, 1, sheet.side) * thickness / 2]),
            np.column_stack([flat[rim], np.full(rim.sum(), -thickness / 2)]),
        ]
    )
    behind = np.arange(len(flat))
    behind[rim] = len(flat) + np.arange(rim.sum())
    front, back = np.split(sheet.faces, 2)
    edges = np.concatenate([front[:, [0, 1]], front[:, [1, 2]], front[:, [2, 0]]])
    shared = set(map(tuple, edges[:, ::-1].tolist()))
    outline = np.array([edge for edge in edges.tolist() if tuple(edge) not in shared])
    a, b = outline.T
    wall = np.concatenate([np.stack([b, a, behind[a]], -1), np.stack([b, behind[a], behind[b]], -1)])
    faces = np.concatenate([front, behind[back], wall])
    return Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(faces))


def guesses(case: Case) -> list[Mesh]:
    width, height, _, _ = case.box
    longest = max(width, height)
    return [
        ellipsoid(case, (longest / 2,) * 3),
        ellipsoid(case, (width / 2, height / 2, width / 2)),
        extrusion(case, 0.1 * longest),
        extrusion(case, 0.25 * longest),
    ]


def draft(case: Case) -> Mesh:
    return inflate(torch.from_numpy(case.framed.rgba[..., 3] / 255)).mesh


def pipeline(case: Case) -> Mesh:
    """The whole preset, as a user runs it."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_png(picture, case.framed.rgba)
        command = [sys.executable, "-c", LAUNCH, "run", str(picture), "--preset", "draft", "--json"]
        done = subprocess.run([*command, "--out", folder], check=True, capture_output=True, text=True)
        return read_mesh(Path(json.loads(done.stdout)["mesh"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=ROOT / "data" / "examples")
    parser.add_argument("--meshes", type=Path, default=ROOT.parent / "shared" / "data" / "meshes")
    parser.add_argument("--names", nargs="+", default=["spot", "stanford-bunny", "cow"], help="files in --meshes")
    parser.add_argument("--points", type=int, help="samples on each surface; the protocol's own by default")
    parser.add_argument("--pipeline", action="store_true", help="add the whole draft preset")
    parser.add_argument(
        "--guesses", action=argparse.BooleanOptionalAction, default=True, help="measure the simpler ones"
    )
    options = parser.parse_args()
    cases = [example_case(folder) for folder in sorted(options.examples.glob("*")) if (folder / "mesh.ply").exists()]
    meshes = [options.meshes / f"{name}.obj" for name in options.names]
    cases += [mesh_case(path) for path in meshes if path.exists()]
    names = ["sphere", "ellipsoid", "thin extrusion", "thick extrusion"] if options.guesses else []
    names += ["inflated"]
    names += ["draft preset"] if options.pipeline else []
    print("| object | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for case in cases:
        surfaces = guesses(case) if options.guesses else []
        surfaces += [draft(case)]
        surfaces += [pipeline(case)] if options.pipeline else []
        cells = []
        for surface in surfaces:
            found = evaluate(surface, case.truth, points=options.points, workers=1).distances
            cells.append((found.chamfer_l1, found.f_scores[-1].f_score))
        best = min(chamfer for chamfer, _ in cells)
        shown = [f"**{c:.4f}**, {f:.3f}" if c == best else f"{c:.4f}, {f:.3f}" for c, f in cells]
        print(f"| {case.name} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
