"""Figures of `kiss3d eval`: times, the rotation search against brute force, and volumes against closed forms.

    python scripts/bench/evaluate.py [speed] [rotations] [volume] [--meshes ../shared/data/meshes]

Prints Markdown tables. `rotations` measures all 6,912 rotations of ten pairs twice and takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trimesh

from kiss3d_cli.evaluation.align.align import JUDGE_POINTS, align, distinct, refine
from kiss3d_cli.evaluation.align.rotation_search import RotationObjective, brute_force_rotations, search_rotations
from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.evaluation.metrics import SurfaceSample, distances, nearest, sample_surface
from kiss3d_cli.evaluation.volume import volume_overlap
from kiss3d_cli.geometry.io.load import read_mesh

NAMES = ("cow", "spot", "stanford-bunny", "teapot", "rocker-arm")


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def header(*cells: str) -> None:
    row(*cells)
    row(*("---" for _ in cells))


def best_of(times: int, work: Callable[[], object]) -> tuple[str, str]:
    """The least wall and processor seconds, child processes included."""
    walls, processors = [], []
    for _ in range(times):
        wall, before = time.perf_counter(), os.times()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(sum(os.times()[:4]) - sum(before[:4]))
    return f"{min(walls):.2f}", f"{min(processors):.2f}"


def million() -> trimesh.Trimesh:
    """Three bumpy balls, 983,040 faces."""
    ball = trimesh.creation.icosphere(subdivisions=7)
    ball.vertices *= 1 + 0.05 * np.sin(9 * ball.vertices[:, :1]) * np.cos(7 * ball.vertices[:, 1:2])
    parts = [ball.copy().apply_translation([shift, 0, 0]) for shift in (-2.5, 0, 2.5)]
    return trimesh.util.concatenate(parts)


def speed(meshes: Path) -> None:
    print("\n### Times\n")
    header("what", "seconds", "processor seconds")
    bunny, teapot = (read_mesh(meshes / f"{name}.obj", torch.float64) for name in ("stanford-bunny", "teapot"))
    generator = np.random.default_rng(0)
    samples = [sample_surface(m.vertices.numpy(), m.faces.numpy(), 100_000, generator) for m in (bunny, teapot)]

    def points() -> None:
        distances(nearest(*samples), (0.01, 0.02, 0.05))

    row("Chamfer, F-score and normal consistency, 100,000 points a side", *best_of(3, points))
    whole = best_of(3, lambda: evaluate(bunny, teapot))
    row("`evaluate` of the bunny and the teapot, protocol kiss3d: sampling, volume IoU and reports too", *whole)
    with tempfile.TemporaryDirectory() as folder:
        first = million()
        second = first.copy()
        second.vertices *= 1.01
        second.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(second.vertices), 2)))
        for suffix in (".ply", ".glb", ".stl", ".obj"):
            paths = [Path(folder) / f"{stem}{suffix}" for stem in ("a", "b")]
            first.export(paths[0])
            (second if suffix == ".obj" else first).export(paths[1])

            def both(paths: list[Path] = paths) -> None:
                evaluate(*(read_mesh(path, torch.float64) for path in paths))

            row(f"983,040 faces each, {suffix[1:].upper()}, with reading", *best_of(2, both))
        command = [sys.executable, "-c", "from kiss3d_cli.cli.app import main; main()", "eval"]
        command += [str(Path(folder) / "a.obj"), "--gt", str(Path(folder) / "b.obj"), "--json"]
        done = best_of(1, lambda: subprocess.run(command, check=True, capture_output=True))
        row("the same in OBJ, one with texture coordinates, as a command from start to exit", *done)


def cloud(meshes: Path, name: str, seed: int) -> SurfaceSample:
    """10,000 points, centred, farthest at 1: as the triposr protocol has them."""
    mesh = read_mesh(meshes / f"{name}.obj", torch.float64)
    sample = sample_surface(mesh.vertices.numpy(), mesh.faces.numpy(), JUDGE_POINTS, np.random.default_rng(seed))
    center = sample.points.mean(0)
    matrix = np.eye(4) / np.linalg.norm(sample.points - center, axis=1).max()
    matrix[:3, 3], matrix[3, 3] = -matrix[0, 0] * center, 1
    return sample.transformed(matrix)


def rotations(meshes: Path) -> None:
    print("\n### The best of 6,912 rotations, then ICP: search against brute force\n")
    header(
        "pair",
        "search: seconds",
        "measured",
        "best",
        "brute force: seconds",
        "best",
        "same 8 best",
        "with ICP: seconds",
        "Chamfer, search",
        "Chamfer, brute force",
    )
    pairs = [(a, a) for a in NAMES] + [(a, b) for a, b in zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True)]
    for number, (first, second) in enumerate(pairs):
        turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(number).random(3))
        source, target = cloud(meshes, first, 0).transformed(turn), cloud(meshes, second, 1)
        middles = source.points.mean(0), target.points.mean(0)
        objective = RotationObjective(source.points - middles[0], target.points - middles[1])
        started = time.perf_counter()
        found = search_rotations(objective)
        searched = time.perf_counter() - started
        started = time.perf_counter()
        expected = brute_force_rotations(objective)
        forced = time.perf_counter() - started
        started = time.perf_counter()
        whole = align("rigid", source, target)
        aligned = time.perf_counter() - started
        starts = [np.eye(4)]
        for rotation in distinct(expected)[:4]:
            start = np.eye(4)
            start[:3, :3] = rotation
            start[:3, 3] = middles[1] - rotation @ middles[0]
            starts.append(start)
        reference = refine(source, target, starts, scaling=False)
        same = "yes" if (found.index == expected.index).all() else "NO"
        row(
            f"{first}, {second}",
            f"{searched:.1f}",
            found.evaluated,
            f"{found.chamfer[0]:.5f}",
            f"{forced:.1f}",
            f"{expected.chamfer[0]:.5f}",
            same,
            f"{aligned:.1f}",
            f"{whole.chamfer_after:.6f}",
            f"{reference.chamfer:.6f}",
        )


def volume() -> None:
    print("\n### Volume IoU on 128^3 against closed forms\n")
    header("pair", "IoU", "exact", "difference")
    ball = trimesh.creation.icosphere(subdivisions=6)
    for distance, size in ((0.0, 0.8), (0.5, 0.8), (1.2, 1.0)):
        other = ball.copy().apply_scale(size).apply_translation(np.array([2, 3, 6]) / 7 * distance)
        r, s, d = 1.0, size, distance
        lens = np.pi * (r + s - d) ** 2 * (d * d + 2 * d * (r + s) - 3 * (r - s) ** 2) / (12 * d) if d > r - s else 0
        shared = lens if d > r - s else 4 / 3 * np.pi * s**3
        volume_row(
            f"balls of radius 1 and {size:g}, {distance:g} apart",
            ball,
            other,
            shared / (4 / 3 * np.pi * (r**3 + s**3) - shared),
        )
    for seed in range(3):
        generator = np.random.default_rng(seed)
        a = np.stack([generator.random(3) * 0.3, 0.7 + generator.random(3) * 0.5])
        b = a + generator.normal(scale=0.1, size=(2, 3))
        shared = np.prod(np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None))
        exact = shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared)
        volume_row(f"boxes, seed {seed}", trimesh.creation.box(bounds=a), trimesh.creation.box(bounds=b), exact)


def volume_row(name: str, a: trimesh.Trimesh, b: trimesh.Trimesh, exact: float) -> None:
    arguments = [part for mesh in (a, b) for part in (np.asarray(mesh.vertices), np.asarray(mesh.faces))]
    found = volume_overlap(*arguments).iou
    row(name, f"{found:.5f}", f"{exact:.5f}", f"{found - exact:+.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["speed", "rotations", "volume", []], default=[])
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--meshes", type=Path, default=root.parent / "shared" / "data" / "meshes")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, torch {torch.__version__}")
    parts = arguments.parts or ["speed", "rotations", "volume"]
    if "speed" in parts:
        speed(arguments.meshes)
    if "rotations" in parts:
        rotations(arguments.meshes)
    if "volume" in parts:
        volume()


if __name__ == "__main__":
    main()
