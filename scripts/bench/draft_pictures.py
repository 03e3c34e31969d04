"""The draft preset on pictures: does each mesh show what its picture shows, and how long does a run take?

    python scripts/bench/draft_pictures.py PICTURE... FOLDER... [--out DIR] [--set KEY=VALUE]... [--sheet FILE.png]

Each picture is one `kiss3d run` in a process of its own, from the command to its exit. Prints a Markdown table of each
run's own check and its times, and draws every mesh from four sides. Ends with code 1 if a run fails.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.io.textured import read_textured_glb
from kiss3d_cli.geometry.render import render_colors, render_texture

WANTED_IOU, WANTED_PSNR, WANTED_BENT = 0.98, 28.0, 0.5
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp"}
AZIMUTHS = (0.0, 60.0, 180.0, 270.0)
TILE = 256


def pictures(given: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        examples = sorted(path.glob("*/picture.png")) if path.is_dir() else []
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        found += examples or inside
    return found


def name_of(picture: Path) -> str:
    return picture.parent.name if picture.stem == "picture" else picture.stem


def run(picture: Path, out: Path, settings: list[str]) -> dict[str, Any]:
    """The run's JSON answer with its wall and processor seconds; `error` if it failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "kiss3d_cli", "run", str(picture), "--preset", "draft", "--out", str(out)]
    done = subprocess.run(
        [*command, "--json", *(part for s in settings for part in ("--set", s))], capture_output=True, text=True
    )
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()}
    return answer | {"wall": wall, "processor": processor}


def row(name: str, answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"| {name} | failed: {answer['error'].splitlines()[-1]} | | | | | | | |"
    check = answer["check"]
    thin = "-" if check["thin_kept"] is None else f"{check['thin_kept']:.3f}"
    missed = [
        what
        for what, bad in (
            ("IoU", check["mask_iou"] < WANTED_IOU),
            ("PSNR", check["color_psnr"] < WANTED_PSNR),
            ("edges", check["ragged_edges"] > WANTED_BENT),
            ("thin", (check["thin_kept"] or 1) < 0.98),
            ("pieces", check["pieces"] != check["mask_pieces"]),
            ("open", not check["watertight"]),
        )
        if bad
    ]
    return (
        f"| {name} | {check['mask_iou']:.3f} | {check['color_psnr']:.1f} | {thin} "
        f"| {check['pieces']} of {check['mask_pieces']} | {check['ragged_edges']:.2f} | {check['faces']:,} "
        f"| {answer['wall']:.1f} / {answer['processor']:.1f} | {', '.join(missed) or 'none'} |"
    )


def four_sides(picture: Path, mesh_file: Path) -> Image.Image:
    """The framed picture beside its mesh from the front, the right at 60 degrees, the back and the left."""
    mesh, texture = read_textured_glb(mesh_file) or (read_mesh(mesh_file), None)
    cameras = orbit_cameras(list(AZIMUTHS), 5.0)
    size = (TILE * 2, TILE * 2)
    shown = render_texture(mesh, texture, cameras, size) if texture is not None else render_colors(mesh, cameras, size)
    strip = Image.new("RGB", (TILE * (1 + len(AZIMUTHS)), TILE), "white")
    strip.paste(Image.open(picture).convert("RGB").resize((TILE, TILE)))
    for place, view in enumerate(shown.colors.clamp(0, 1).numpy()):
        tile = Image.fromarray(np.round(view * 255).astype(np.uint8)).resize((TILE, TILE))
        strip.paste(tile, (TILE * (1 + place), 0))
    return strip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--sheet", type=Path, help="draw every mesh from four sides into this file")
    given = parser.parse_args()
    failed = False
    strips = []
    print("| picture | IoU | PSNR, dB | thin kept | pieces | bent, 1/1000 | faces | wall / processor, s | missed |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for picture in pictures(given.pictures):
            answer = run(picture, given.out or Path(scratch), given.settings)
            failed |= "error" in answer
            print(row(name_of(picture), answer), flush=True)
            if given.sheet and "error" not in answer:
                folder = Path(answer["run_dir"])
                strip = four_sides(folder / "preprocess" / "image.png", Path(answer["mesh"]))
                ImageDraw.Draw(strip).text((4, 4), name_of(picture), fill="black")
                strips.append(strip)
    if strips:
        sheet = Image.new("RGB", (strips[0].width, TILE * len(strips)), "white")
        for place, strip in enumerate(strips):
            sheet.paste(strip, (0, TILE * place))
        given.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(given.sheet)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
