"""ISOMER on bundles whose object is known: how close it comes, what it costs, what limits it.

    python scripts/bench/refine.py [--only quality noise cost curve bundles] [--threads 2] [--shared DIR] [--out DIR]

quality   Chamfer distance and F-scores (`kiss3d` protocol, no alignment) of the visual hull, of the surface through the
          integrated normals and of the refined mesh, five meshes, four ray-cast views of 512 px each
cost      50 steps on a mesh of 100,000 faces: seconds, and memory over that of the process before
curve     one step at 10,000 to 300,000 faces and 256 to 1024 px
noise     the optimiser's published settings against ours, both from the integrated normals
bundles   the three real bundles: components, median angle between the mesh's normals and the bundle's

Prints Markdown tables. With --out, meshes and pictures of them from eight sides are kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from ground_truth import MESHES, Case, add_shared, load_case

from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.geometry.cameras import BUNDLE_RADIUS, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.refine.isomer import refine
from kiss3d_cli.geometry.render import render_normals
from kiss3d_cli.geometry.settings import IsomerSettings, RemeshSettings
from kiss3d_cli.geometry.surface.decimate import decimate
from kiss3d_cli.geometry.surface.topology import report
from kiss3d_cli.image.bundle import Bundle, join_bundle, load_bundle
from kiss3d_cli.image.png import write_png

PUBLISHED = {  # of the released code on the same bundles: Chamfer, F@0.01, F@0.02, F@0.05
    "cow": (0.0121, 0.510, 0.826, 0.997),
    "stanford-bunny": (0.0215, 0.477, 0.639, 0.879),
    "spot": (0.0080, 0.779, 0.916, 0.999),
    "teapot": (0.0154, 0.557, 0.743, 0.938),
    "rocker-arm": (0.0143, 0.672, 0.781, 0.920),
}
REAL = {"sphere": 4.5, "bust": 4.5, "person": 4.5}
FACES = 50_000


def scores(mesh: Mesh, case: Case) -> tuple[float, ...]:
    found = evaluate(mesh, case.truth, protocol="kiss3d", alignment="none").distances
    return (found.chamfer_l1, *(score.f_score for score in found.f_scores))


def picture(mesh: Mesh) -> torch.Tensor:
    """Shaded from eight sides, as (2 S, 4 S, 3) bytes: around at eye level, then from above and below."""
    cameras = orbit_cameras([0, 90, 180, 270, 45, 225, 45, 225], [5, 5, 5, 5, 40, 40, -40, -40], radius=4.4)
    shown = render_normals(mesh, cameras, (400, 400))
    light = torch.nn.functional.normalize(torch.tensor([0.4, 0.6, 1.0]), dim=0)
    shade = 0.15 + 0.8 * (shown.normals @ light).clamp(0, 1)
    tiles = (shade * shown.mask + (1 - shown.mask)).clamp(0, 1)
    rows = tiles.reshape(2, 4, 400, 400).permute(0, 2, 1, 3).reshape(800, 1600)
    return (rows[..., None].expand(-1, -1, 3) * 255).round().to(torch.uint8)


def keep(out: Path | None, name: str, mesh: Mesh) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_mesh(out / f"{name}.ply", mesh)
        write_png(out / f"{name}.png", picture(mesh).contiguous().numpy())


def run(bundle: Bundle, settings: IsomerSettings, radius: float = BUNDLE_RADIUS) -> Mesh:
    """As the stage does it: hull to refined to at most 50,000 faces."""
    refined = refine("hull", bundle.normals, bundle.mask, bundle_cameras(radius), settings)
    return decimate(refined.mesh, FACES)


def quality(shared: Path, names: list[str], steps: int, out: Path | None) -> None:
    methods = {
        "hull": None,
        "integrated": IsomerSettings(fine_steps=0),
        "refined": IsomerSettings(fine_steps=steps),
    }
    print("\n| mesh | surface | CD | F@0.01 | F@0.02 | F@0.05 | seconds | faces |\n|---|---|---|---|---|---|---|---|")
    totals: dict[str, list[tuple[float, ...]]] = {}
    for name in names:
        case = load_case(shared, name)
        for method, settings in methods.items():
            start = time.perf_counter()
            if settings is None:
                mesh = decimate(visual_hull(case.bundle.mask.float(), bundle_cameras()), 30_000)
            else:
                mesh = run(case.bundle, settings)
            seconds = time.perf_counter() - start
            found = scores(mesh, case)
            totals.setdefault(method, []).append(found)
            print(f"| {name} | {method} | {row(found)} | {seconds:.1f} | {len(mesh.faces)} |", flush=True)
            keep(out, f"{name}-{method}", mesh)
        print(f"| {name} | published | {row(PUBLISHED[name])} | | |")
        totals.setdefault("published", []).append(PUBLISHED[name])
        keep(out, f"{name}-truth", case.truth)
    for method, found in totals.items():
        mean = [sum(column) / len(found) for column in zip(*found, strict=True)]
        print(f"| mean | {method} | {row(tuple(mean))} | | |")


def row(figures: tuple[float, ...]) -> str:
    return f"{figures[0]:.4f} | " + " | ".join(f"{value:.3f}" for value in figures[1:])


def bent_length(mesh: Mesh) -> float:
    """Length of the edges whose faces are more than 45 degrees apart, world units."""
    source = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    a, b = source.vertices[source.face_adjacency_edges].transpose(1, 0, 2)
    return float(np.linalg.norm(a - b, axis=1)[source.face_adjacency_angles > np.pi / 4].sum())


def noise(shared: Path, names: list[str]) -> None:
    ours = RemeshSettings()
    optimisers = {
        "published": replace(ours, decay=0.99, bending_weight=0.0, least_gradient=0.0),
        "ours": ours,
    }
    print("\n| mesh | optimiser | CD | bent edges, length | normals against the truth, mean cosine | mask IoU |")
    print("|---|---|---|---|---|---|")
    for name in names:
        case = load_case(shared, name)
        for words, fine in optimisers.items():
            mesh = run(case.bundle, IsomerSettings(fine=fine))
            found = evaluate(mesh, case.truth, protocol="kiss3d", alignment="none").distances
            side = case.bundle.mask.shape[1]
            shown = render_normals(mesh, bundle_cameras(), (side, side), antialiased=False).mask.bool()
            overlap = float((shown & case.bundle.mask).sum() / (shown | case.bundle.mask).sum())
            figures = (
                f"{found.chamfer_l1:.4f} | {bent_length(mesh):.1f} | {found.normal_consistency:.4f} | {overlap:.4f}"
            )
            print(f"| {name} | {words} | {figures} |", flush=True)


def with_faces(faces: int, size: int, steps: int) -> IsomerSettings:
    """Settings that bring a mesh to `faces` faces, about, and keep it there."""
    fine = replace(RemeshSettings(), edge_lengths=(1e-6, 1e-6))
    return IsomerSettings(size=size, integrate=False, fine_steps=steps, fine=fine, target_faces=faces)


WORK = """
import sys, time, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from refine import bundle_cameras, load_bundle, refine, visual_hull, with_faces, IsomerSettings, FACES, decimate
torch.set_num_threads(int(sys.argv[4]))
bundle = load_bundle(Path(sys.argv[2]))
start, settings = "hull", IsomerSettings(target_faces=FACES)
if sys.argv[3] == "steps":
    start = visual_hull(bundle.mask.float(), bundle_cameras())
    settings = with_faces(95_000, 512, 50)
decimate(visual_hull(bundle.mask.float(), bundle_cameras(), 32), 100)  # everything is imported and warm
def peak():
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
before, begin, processor = peak(), time.perf_counter(), time.process_time()
mesh = refine(start, bundle.normals, bundle.mask, bundle_cameras(), settings).mesh
seconds, processor = time.perf_counter() - begin, time.process_time() - processor
print(f"{seconds:.1f} | {processor:.1f} | {len(mesh.faces)} | {peak() - before:.0f}")
"""


def cost(shared: Path, names: list[str], threads: int) -> None:
    """In a process of its own for each figure: the peak of an earlier one would hide the next."""
    print("\n| mesh | what | threads | seconds | processor seconds | faces at the end | peak memory over before, MiB |")
    print("|---|---|---|---|---|---|---|")
    whats = {"steps": "50 steps alone, 100,000 faces", "all": "as the stage: integration, then 50 steps"}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bundle.png"
            write_png(file, join_bundle(load_case(shared, name).bundle))
            for what, words in whats.items():
                for count in sorted({1, threads}):
                    command = [sys.executable, "-c", WORK, str(Path(__file__).parent), str(file), what, str(count)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    print(f"| {name} | {words} | {count} | {done.stdout.strip()} |", flush=True)


def curve(shared: Path, name: str) -> None:
    bundle = load_case(shared, name).bundle
    start = visual_hull(bundle.mask.float(), bundle_cameras(), resolution=160)
    print("\n| faces | pixels a side | milliseconds a step |\n|---|---|---|")
    cases = [(count, 512) for count in (10_000, 30_000, 100_000, 300_000)] + [(100_000, 256), (100_000, 1024)]
    for faces, size in cases:
        begun = decimate(start, faces)
        settled = refine(begun, bundle.normals, bundle.mask, bundle_cameras(), with_faces(faces, 256, 12)).mesh
        steps = 5
        settings = with_faces(faces, size, steps)
        begin = time.perf_counter()
        refine(settled, bundle.normals, bundle.mask, bundle_cameras(), replace(settings, fine_steps=0))
        idle = time.perf_counter() - begin
        begin = time.perf_counter()
        after = refine(settled, bundle.normals, bundle.mask, bundle_cameras(), settings).mesh
        each = (time.perf_counter() - begin - idle) / steps
        print(f"| {len(after.faces)} | {size} | {1000 * each:.0f} |", flush=True)


def bundles(shared: Path, steps: int, out: Path | None) -> None:
    print("\n| bundle | components | closed | faces | median angle, degrees | seconds |\n|---|---|---|---|---|---|")
    for name, radius in REAL.items():
        bundle = load_bundle(shared / "data" / "bundles" / f"{name}.png")
        begin = time.perf_counter()
        mesh = run(bundle, IsomerSettings(fine_steps=steps), radius)
        seconds = time.perf_counter() - begin
        found = report(mesh.vertices.double().numpy(), mesh.faces.numpy())
        cameras = bundle_cameras(radius)
        side = bundle.mask.shape[1]
        shown = render_normals(mesh, cameras, (side, side), antialiased=False)
        both = bundle.mask & shown.mask.bool()
        cosine = (shown.normals * bundle.normals).sum(-1)[both].clamp(-1, 1)
        angle = float(torch.rad2deg(torch.acos(cosine)).median())
        print(
            f"| {name} | {found.components} | {found.watertight} | {len(mesh.faces)} | {angle:.2f} | {seconds:.1f} |",
            flush=True,
        )
        keep(out, f"{name}", mesh)


def main() -> None:
    sections = ("quality", "noise", "cost", "curve", "bundles")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared(parser)
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--names", nargs="+", choices=MESHES, default=list(MESHES))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if "quality" in options.only:
        quality(options.shared, options.names, options.steps, options.out)
    if "noise" in options.only:
        noise(options.shared, options.names)
    if "cost" in options.only:
        cost(options.shared, options.names, options.threads)
    if "curve" in options.only:
        curve(options.shared, "stanford-bunny")
    if "bundles" in options.only:
        bundles(options.shared, options.steps, options.out)


if __name__ == "__main__":
    main()
