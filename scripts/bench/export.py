"""What `kiss3d export` writes, measured: how fine the front is, what each target gets, and whether readers take it.

    python scripts/bench/export.py front data/examples [--runs DIR] [--sheet sheet.png]
    python scripts/bench/export.py seams RUN...
    python scripts/bench/export.py normals RUN... [--sheet sheet.png]
    python scripts/bench/export.py truth MESH [--runs DIR]
    python scripts/bench/export.py targets RUN_OR_MESH [--faces 50000]
    python scripts/bench/export.py objects FOLDER [--count 100] [--out objects.jsonl]

`front` compares the front of each example's draft run with its picture, before and after the export, at 1024 pixels
inside the picture's mask. `seams` tells what lies across the seams of the exported texture (median and 95th percentile
of the differences, of 255). `normals` compares the shading of the exported mesh, without and with its normal map, with
the run's pictures of normals: mean degrees between them, away from the outlines. `truth` renders a mesh's bundle, makes
a run of it, and compares the shading with the mesh's own, in the bundle's views and half-way between them, also with a
map from normals that are wrong by 8 degrees. `targets` prints the table of files.
`objects` takes coloured meshes (`*.zip` of `<id>.npz` with `v`, `f` and `c`), writes each for a slicer, a phone, an
engine and a page, and has PrusaSlicer, OpenUSD's and Khronos' validators read them; what was measured before is read
from `--out`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from export_readers import check, slice_print

SEED = 7


def front(options: argparse.Namespace) -> None:
    from export_front import compare, run_of, sheet

    print(
        "| picture | its pixels | texture | run's own, dB | exported | 5,000 faces | with what is not shown as white |"
    )
    print("|---|---|---|---|---|---|---|")
    shown = []
    for picture in sorted(options.examples.glob("*/picture.png")):
        name = picture.parent.name
        found = compare(run_of(picture, name, options.runs))
        shown.append(found.pictures)
        numbers = " | ".join(f"{value:.1f}" for value in (found.before, found.after, found.low, found.strict))
        print(f"| {name} | {found.pixels} | {found.texture} | {numbers} |", flush=True)
    if options.sheet:
        sheet(shown, options.sheet)


def seams(options: argparse.Namespace) -> None:
    from export_seams import LEVELS
    from export_seams import seams as measure

    from kiss3d_cli.export.exporting import export
    from kiss3d_cli.export.options import Options
    from kiss3d_cli.export.source import read_model

    print("| run | faces | " + " | ".join(f"level {level}" for level in LEVELS) + " |")
    print("|---|---|" + "---|" * len(LEVELS))
    for run in options.runs:
        for faces in (None, 5000):
            made = export(_model(run, None), Options(to="blender", faces=faces), "mesh")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "mesh.glb"
                path.write_bytes(made.files["mesh.glb"])
                found = measure(read_model(path)[0])
            cells = " | ".join(f"{middle:.1f}, {most:.1f}" for middle, most in found.values())
            print(f"| {run.name.split('-')[0]} | {made.facts['faces']:,} | {cells} |", flush=True)


def normals(options: argparse.Namespace) -> None:
    from dataclasses import replace

    import export_normals
    import numpy as np
    from PIL import Image

    from kiss3d_cli.export.exporting import export
    from kiss3d_cli.export.options import Options
    from kiss3d_cli.export.relief import LEAST, RunNormals, measured

    print("| run | faces | relief | without, degrees | with | web, MB without | with |\n|---|---|---|---|---|---|---|")
    rows = []
    for run in options.runs:
        source = RunNormals(run / "bundle" / "bundle.png", options.radius)
        model = replace(_model(run, None), bundle=source)
        seen, _, strength = measured(model.mesh, source)
        made = {}
        for mapped in (False, None):
            asked = Options(to="blender", origin="center", normal_map=mapped)
            made[mapped] = export_normals.read(export(model, asked, "mesh").files["mesh.glb"], model.mesh)
        size, cells, sheet = seen.masks.shape[1], [], []
        wanted = seen.normals
        for one in made.values():
            found, mask = export_normals.render(one, seen.cameras, size)
            cells.append(f"{float(export_normals.degrees(found, wanted, mask & seen.masks).mean()):.2f}")
            sheet.append(export_normals.lit(found, mask))
        sizes = [len(export(model, Options(to="web", normal_map=m), "m").files["m.glb"]) / 1e6 for m in (False, None)]
        rows += [*sheet, export_normals.lit(wanted, seen.masks)]
        left = f"{strength:.2f}" + " (left out)" * (strength < LEAST)
        print(
            f"| {run.name.split('-')[0]} | {len(model.mesh.faces):,} | {left} | {cells[0]} | {cells[1]} | "
            f"{sizes[0]:.2f} | {sizes[1]:.2f} |",
            flush=True,
        )
    if options.sheet:
        Image.fromarray(np.concatenate(rows)).save(options.sheet)


def truth(options: argparse.Namespace) -> None:
    import export_normals

    print("| views | map of | without, degrees | with |\n|---|---|---|---|")
    for views, bundle, without, mapped in export_normals.against(options.mesh, options.runs):
        print(f"| {views} | {bundle} | {without:.2f} | {mapped:.2f} |", flush=True)


def targets(options: argparse.Namespace) -> None:
    from kiss3d_cli.export.exporting import export
    from kiss3d_cli.export.options import Options
    from kiss3d_cli.export.targets import TARGETS

    model = _model(options.source, options.faces)
    print(f"{len(model.mesh.faces):,} faces\n")
    print("| target | file | size, MB | faces | processor, s | checked with |\n|---|---|---|---|---|---|")
    asked = [Options(to=to, kind=kind) for to, target in TARGETS.items() for kind in target.formats]
    asked += [Options(to="print", hollow=True), Options(to="print", base=True, wall=1.2e-3, stable=True)]
    asked += [Options(to="unreal", lods=3), Options(to="unreal", collision=True), Options(to="godot", faces=5000)]
    for one in asked:
        began = time.process_time()
        made = export(model, one, "mesh")
        seconds = time.process_time() - began
        with tempfile.TemporaryDirectory() as folder:
            for file, data in made.files.items():
                (Path(folder) / file).write_bytes(data)
            path = Path(folder) / next(iter(made.files))
            said = check(path) if not one.target.solid or one.format == "ply" else slice_print(path)
        names = ("stable", "base", "wall", "hollow", "lods", "collision", "faces")
        extras = [name for name in names if getattr(one, name) != getattr(Options(to=one.to), name)]
        size = sum(map(len, made.files.values())) / 1e6
        title = " ".join([one.to, *(f"--{name}" for name in extras)])
        print(
            f"| {title} | {', '.join(made.files)} | {size:.2f} | {made.facts['faces']:,} | {seconds:.1f} | {said} |",
            flush=True,
        )


def _model(source: Path, faces: int | None) -> Any:
    """A run's mesh or a file, with about that many faces: cut in four where it has fewer, then simplified."""
    import dataclasses

    import torch

    from kiss3d_cli.export.photograph import RunPicture
    from kiss3d_cli.export.simplify import rebaked
    from kiss3d_cli.export.source import read_model
    from kiss3d_cli.geometry.mesh import Mesh
    from kiss3d_cli.geometry.surface.decimate import decimate

    mesh = source / "refine" / "mesh.glb" if source.is_dir() else source
    model, _ = read_model(mesh)
    if faces is not None:
        import trimesh

        fine = trimesh.Trimesh(model.mesh.vertices.numpy(), model.mesh.faces.numpy(), process=False)
        while len(fine.faces) < faces:
            fine = fine.subdivide()
        vertices = torch.tensor(fine.vertices, dtype=torch.float32)
        full = decimate(Mesh(vertices, torch.tensor(fine.faces.astype("int64"))), faces)
        model = dataclasses.replace(rebaked(model, full, 1024), normal_map=None)
    if source.is_dir():
        paths = source / "input.png", source / "preprocess" / "image_rgba.png", source / "preprocess" / "window.json"
        model = dataclasses.replace(model, origin=RunPicture(*paths, 4.15))
    return model


def objects(options: argparse.Namespace) -> None:
    from export_objects import measure, pick

    done: dict[str, dict[str, Any]] = {}
    if options.out.exists():
        done = {entry["id"]: entry for entry in map(json.loads, options.out.read_text(encoding="utf-8").splitlines())}
    with options.out.open("a", encoding="utf-8") as log:
        for identity, model in pick(options.folder, options.count, SEED, done):
            done[identity] = {"id": identity, **measure(model)}
            log.write(json.dumps(done[identity]) + "\n")
            log.flush()
            print(
                identity,
                {key: value for key, value in done[identity].items() if value and key.startswith("bad")},
                flush=True,
            )
    found = list(done.values())
    print(f"\n{len(found)} meshes\n\n| check | good | not |\n|---|---|---|")
    for key in sorted({key for entry in found for key in entry if key.startswith("bad_")}):
        bad = [entry["id"] for entry in found if entry.get(key)]
        print(f"| {key.removeprefix('bad_')} | {len(found) - len(bad)} | {', '.join(bad) or 'none'} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("front")
    one.add_argument("examples", type=Path)
    one.add_argument("--runs", type=Path, default=Path("outputs"), help="where their draft runs are, or are made")
    one.add_argument("--sheet", type=Path, help="pictures side by side")
    one.set_defaults(do=front)
    more = commands.add_parser("seams")
    more.add_argument("runs", type=Path, nargs="+")
    more.set_defaults(do=seams)
    maps = commands.add_parser("normals")
    maps.add_argument("runs", type=Path, nargs="+")
    maps.add_argument("--radius", type=float, default=4.15, help="of the runs' cameras")
    maps.add_argument("--sheet", type=Path, help="clay renders without and with the map, and the pictures of normals")
    maps.set_defaults(do=normals)
    exact = commands.add_parser("truth")
    exact.add_argument("mesh", type=Path)
    exact.add_argument("--runs", type=Path, default=Path("outputs"), help="where its run is, or is made")
    exact.set_defaults(do=truth)
    two = commands.add_parser("targets")
    two.add_argument("source", type=Path)
    two.add_argument("--faces", type=int)
    two.set_defaults(do=targets)
    three = commands.add_parser("objects")
    three.add_argument("folder", type=Path)
    three.add_argument("--count", type=int, default=100)
    three.add_argument("--out", type=Path, default=Path("objects.jsonl"))
    three.set_defaults(do=objects)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
