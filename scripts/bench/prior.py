"""The learned prior against inflation, each through the whole draft preset, on objects whose shape is known.

    python scripts/bench/prior.py --objects FOLDER --meshes FOLDER
    python scripts/bench/prior.py ... --sets examples --methods prior --weights outputs/prior/run/prior.safetensors
    python scripts/bench/prior.py ... --sheet docs/prior.jpg --sheet-count 12

Chamfer distance and F-score at 0.05 in the `kiss3d` protocol, without alignment. Each object is seen once: the seven
examples in their own picture, the meshes from four sides, objects of the held-out families (training/held_out.py,
never trained on) from a random azimuth within 45 degrees of their front. What is measured is kept in --out, so that a
run that was stopped goes on. Prints Markdown tables. No texture is baked: it does not move the surface.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.geometry.cameras import FIELD_OF_VIEW, bundle_cameras, orbit_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate, shrink_into_views
from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.geometry.render import render_colors, render_normals
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import write_png
from kiss3d_cli.methods.multiview.prior_shape import shape_of
from kiss3d_cli.models.prior import weights
from kiss3d_cli.pipeline import launch
from kiss3d_cli.training.held_out import HELD_OUT
from kiss3d_cli.training.objects import find_objects, read_object

ROOT = Path(__file__).parents[2]
MESHES = ("spot", "stanford-bunny", "cow", "teapot", "rocker-arm")
AZIMUTHS = (0, 90, 180, 270)
LONGEST = 1.9
WIDE = 42.0
"""Degrees; wider than the bundle's camera, so that an object near the camera is not cut off at the border."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One object seen once: `group` is what the table's row sums up."""

    name: str
    kind: str
    group: str
    picture: Path
    truth: Mesh


def example_cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*/mesh.ply")):
        yield Case(path.parent.name, "examples", path.parent.name, path.parent / "picture.png", read_mesh(path))


def mesh_cases(folder: Path, out: Path) -> Iterator[Case]:
    for name in MESHES:
        mesh = read_mesh(folder / f"{name}.obj")
        for azimuth in AZIMUTHS:
            yield seen(f"{name}-{azimuth}", "meshes", name, mesh, azimuth, out)


def held_out_cases(folder: Path, each: int, out: Path) -> Iterator[Case]:
    found = find_objects(folder)
    for family in HELD_OUT:
        entries = found.of_family(family)
        rng = np.random.default_rng(int(hashlib.sha256(family.encode()).hexdigest()[:8], 16))
        for index in rng.permutation(len(entries))[:each]:
            entry = entries[index]
            azimuth = float(rng.uniform(-45, 45))
            name = f"{family}-{entry.name}-{entry.member[:6] if entry.member else ''}"
            yield seen(name, "held-out", family, read_object(entry), azimuth, out)


def seen(name: str, kind: str, group: str, mesh: Mesh, azimuth: float, out: Path) -> Case:
    """The mesh turned so that what the camera saw is its front, and the picture: its colours, shaded from in front."""
    a = math.radians(azimuth)
    turn = torch.tensor([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    vertices = mesh.vertices.float() @ turn.T
    low, high = vertices.amin(0), vertices.amax(0)
    colors = mesh.colors if mesh.colors is not None else torch.full_like(vertices, 0.75)
    truth = Mesh((vertices - (low + high) / 2) * (LONGEST / (high - low).max()), mesh.faces, colors)
    path = out / "pictures" / f"{name}.png"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        size = round(512 * math.tan(math.radians(WIDE / 2)) / math.tan(math.radians(FIELD_OF_VIEW / 2)))
        camera = orbit_cameras([0.0], fov=WIDE)
        shape = render_normals(truth, camera, (size, size))
        paint = render_colors(truth, camera, (size, size))
        light = 0.3 + 0.7 * shape.normals[0, ..., 2:].abs().clamp(0, 1)
        rgb = (255 * (paint.colors[0] * light).clamp(0, 1)).round().byte().numpy()
        alpha = (255 * shape.mask[0]).round().byte().numpy()
        write_png(path, frame_foreground(rgb, alpha).rgba)
    return Case(name, kind, group, path, truth)


def draft(case: Case, method: str, out: Path) -> Path:
    """The final mesh of the whole draft preset; kept."""
    kept = out / "meshes" / f"{case.name}.ply"
    if not kept.exists():
        request = launch.Request(
            {"picture": case.picture},
            preset="draft",
            settings=(f"multiview.method={method}", "refine.texture=false", "caption.text=an object"),
            out=out / "runs",
            name=case.name,
            command="bench",
        )
        done = launch.start(launch.prepare(request))
        mesh = done.mesh
        assert mesh is not None
        kept.parent.mkdir(parents=True, exist_ok=True)
        mesh.with_suffix(".ply").rename(kept)
        shutil.rmtree(done.folder.path)
    return kept


def surface(case: Case, method: str, out: Path) -> Path:
    """The surface of the multiview stage, as it writes it; kept."""
    kept = out / "surfaces" / f"{case.name}.ply"
    if not kept.exists():
        picture = load_picture(case.picture)
        assert picture.alpha is not None
        rgba = frame_foreground(picture.rgb, picture.alpha).rgba
        cameras = bundle_cameras()
        if method == "prior":
            mesh = shape_of(weights.load().network, rgba, cameras[[0]]).mesh
        else:
            image = torch.from_numpy(rgba).float() / 255
            mesh = inflate(image[..., 3], cameras[[0]], views=cameras).mesh
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_mesh(kept, shrink_into_views(mesh, cameras))
    return kept


def measure(case: Case, mesh: Path, points: int | None) -> dict[str, float]:
    found = evaluate(read_mesh(mesh), case.truth, points=points, workers=1).distances
    return {"chamfer": found.chamfer_l1, "f05": found.f_scores[-1].f_score}


def side_views(case: Case, meshes: list[Path], size: int = 160) -> np.ndarray:
    """The picture, then every mesh and the truth from 35 and from 90 degrees, shaded."""
    with Image.open(case.picture) as opened:
        rgba = opened.convert("RGBA").resize((size, size))
    white = Image.new("RGBA", rgba.size, "white")
    tiles = [np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))]
    for mesh in [*(read_mesh(path) for path in meshes), case.truth]:
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        placed = mesh.with_vertices((mesh.vertices - (low + high) / 2) * (1.7 / (high - low).max()))
        cameras = orbit_cameras([35.0, 90.0], 10.0)
        shape = render_normals(placed, cameras, (size, size))
        mask = shape.mask[..., None]
        if placed.colors is None:
            placed = placed.with_colors(torch.full_like(placed.vertices, 0.75))
        paint = render_colors(placed, cameras, (size, size)).colors
        lit = paint * (0.35 + 0.65 * shape.normals[..., 2:].abs()) * mask + 1 - mask
        tiles += list((255 * lit.clamp(0, 1)).round().byte().numpy())
    return np.concatenate(tiles, 1)


def table(rows: dict[str, dict[str, dict[str, float]]], cases: list[Case], methods: list[str]) -> str:
    """Means of each group and of each kind; with two methods, the ratio of the second to the first."""
    lines = ["| objects | n | " + " | ".join(f"{m}: Chamfer, F@0.05" for m in methods) + " | ratio of Chamfer, of F |"]
    lines.append("|---" * (len(methods) + 3) + "|")
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(f"{case.kind}: {case.group}", []).append(case)
    for kind in dict.fromkeys(case.kind for case in cases):
        groups[f"**{kind}, all**"] = [case for case in cases if case.kind == kind]
    for name, members in groups.items():
        there = [case for case in members if all(case.name in rows[method] for method in methods)]
        if not there:
            continue
        means = [
            (
                float(np.mean([rows[method][case.name]["chamfer"] for case in there])),
                float(np.mean([rows[method][case.name]["f05"] for case in there])),
            )
            for method in methods
        ]
        cells = [f"{chamfer:.4f}, {f:.3f}" for chamfer, f in means]
        first, last = means[0], means[-1]
        ratio = f"{last[0] / first[0]:.3f}, {last[1] / max(first[1], 1e-9):.3f}" if len(methods) > 1 else ""
        lines.append(f"| {name} | {len(there)} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=ROOT / "data" / "examples")
    parser.add_argument("--meshes", type=Path, help="a folder with spot.obj and the others")
    parser.add_argument("--objects", type=Path, help="the folder of objects")
    parser.add_argument("--each", type=int, default=10, help="objects of each held-out family")
    parser.add_argument("--sets", nargs="+", default=["examples", "meshes", "held-out"])
    parser.add_argument("--methods", nargs="+", default=["inflate", "prior"])
    parser.add_argument("--surfaces", action="store_true", help="the multiview stage's surface alone")
    parser.add_argument("--weights", type=Path, help="weights that are not packaged yet")
    parser.add_argument("--points", type=int, help="samples on each surface; the protocol's own by default")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "prior" / "bench")
    parser.add_argument("--sheet", type=Path, help="draw side views of the cases to this picture")
    parser.add_argument("--sheet-count", type=int, default=30, help="how many, evenly over the cases")
    options = parser.parse_args()
    if options.weights:
        weights.PACKAGED, weights.SHA256 = options.weights, options.out / "weights.sha256"
        options.out.mkdir(parents=True, exist_ok=True)
        weights.SHA256.write_text(file_sha256(options.weights), encoding="ascii")
    cases: list[Case] = []
    if "examples" in options.sets:
        cases += example_cases(options.examples)
    if "meshes" in options.sets and options.meshes:
        cases += mesh_cases(options.meshes, options.out)
    if "held-out" in options.sets and options.objects:
        cases += held_out_cases(options.objects, options.each, options.out)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    kept: dict[str, Path] = {}
    records: dict[str, Path] = {}
    make = surface if options.surfaces else draft
    for method in options.methods:
        tag = method if method != "prior" else f"prior-{file_sha256(weights.PACKAGED)[:8]}"
        kept[method] = options.out / tag
        kept[method].mkdir(parents=True, exist_ok=True)
        record = kept[method] / ("surfaces.json" if options.surfaces else "measured.json")
        records[method] = record
        rows[method] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    for number, case in enumerate(cases):
        for method in options.methods:
            if case.name not in rows[method]:
                mesh = make(case, method, kept[method])
                rows[method][case.name] = measure(case, mesh, options.points)
                records[method].write_text(json.dumps(rows[method], indent=1), encoding="utf-8")
        shown = "  ".join(f"{m} {rows[m][case.name]['chamfer']:.4f} {rows[m][case.name]['f05']:.3f}" for m in rows)
        print(f"{number + 1}/{len(cases)} {case.kind} {case.name}: {shown}", file=sys.stderr, flush=True)
    print(table(rows, cases, options.methods))
    if options.sheet:
        step = max(1, len(cases) // options.sheet_count)
        picked = cases[step // 2 :: step][: options.sheet_count]
        meshes = [[make(case, m, kept[m]) for m in options.methods] for case in picked]
        Image.fromarray(np.concatenate([side_views(c, m) for c, m in zip(picked, meshes, strict=True)])).save(
            options.sheet, quality=88
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
