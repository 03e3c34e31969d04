"""Pictures of several sides of an object against its front alone, on objects whose shape is known.

    python scripts/bench/sides.py [--shared DIR] [--meshes spot cow ...] [--out DIR]

Each mesh is seen from four sides by the bundle's cameras, grey with its normals' shading. `kiss3d run --preset draft`
makes a mesh of the front alone, of front and right, and of all four, each framed and matched by the run itself as any
photos would be. Chamfer distance and F@0.05 in the `kiss3d` protocol without alignment,
the run's own `eval`. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ground_truth import MESHES, Case, add_shared, load_case

from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.image.png import write_png

SIDES = ("front", "right", "back", "left")
TRIALS = {"front": (), "front, right": ("right",), "four sides": ("right", "back", "left")}


def write_sides(case: Case, folder: Path) -> dict[str, Path]:
    """Each side with alpha, its colour the shading of its normals by a light from above the viewer."""
    files = {}
    for number, side in enumerate(SIDES):
        normals = case.bundle.normals[number].numpy()
        mask = case.bundle.mask[number].numpy()
        shade = 0.35 + 0.6 * np.clip(normals @ np.array([0.0, 0.6, 0.8]), 0, 1)
        grey = np.round(255 * np.where(mask, shade, 1.0)).astype(np.uint8)
        alpha = np.where(mask, 255, 0).astype(np.uint8)
        files[side] = folder / f"{side}.png"
        write_png(files[side], np.dstack([grey, grey, grey, alpha]))
    return files


def trial(files: dict[str, Path], others: tuple[str, ...], truth: Path, out: Path) -> tuple[float, float]:
    options = [part for side in others for part in (f"--{side}", str(files[side]))]
    command = [sys.executable, "-m", "kiss3d_cli", "run", str(files["front"]), *options, "--preset", "draft"]
    done = subprocess.run(
        [*command, "--gt", str(truth), "--set", "eval.align=none", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    record = json.loads((Path(json.loads(done.stdout)["run_dir"]) / "eval" / "metrics.json").read_text("utf-8"))
    scores = record["metrics"]
    return scores["chamfer_l1"], next(f["f_score"] for f in scores["f_scores"] if f["threshold"] == 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared(parser)
    parser.add_argument("--meshes", nargs="+", default=MESHES)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    given = parser.parse_args()
    print(f"| object | {' | '.join(TRIALS)} |")
    print("|---" * (1 + len(TRIALS)) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.meshes:
            folder = Path(scratch) / name
            folder.mkdir()
            case = load_case(given.shared, name)
            files = write_sides(case, folder)
            truth = folder / "truth.ply"
            write_mesh(truth, case.truth)
            scores = [trial(files, others, truth, given.out or folder) for others in TRIALS.values()]
            print(f"| {name} | {' | '.join(f'{c:.4f}, {f:.3f}' for c, f in scores)} |", flush=True)


if __name__ == "__main__":
    main()
