"""How fine the front of a run's mesh is, before and after its export, against the picture that was given."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kiss3d_cli.evaluation.front_check import fit_front
from kiss3d_cli.export.exporting import export
from kiss3d_cli.export.model import Model
from kiss3d_cli.export.options import Options
from kiss3d_cli.export.photograph import RunPicture
from kiss3d_cli.export.source import read_model
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.render import render_texture
from kiss3d_cli.image.framing import frame_window
from kiss3d_cli.image.picture import load_picture
from kiss3d_cli.image.png import read_png

SIDE, FEW = 1024, 5000


@dataclass(frozen=True)
class Found:
    """
    Attributes:
        pixels, texture: of the picture's square around the object, and of the texture exported.
        before, after, low: decibels of the run's own mesh, the exported one, and that of 5,000 faces, over the pixels
            that the picture's mask and the front share.
        strict: of the exported one over all of the mask, white where the front shows nothing.
        pictures: the picture and the three fronts.
    """

    pixels: int
    texture: int
    before: float
    after: float
    low: float
    strict: float
    pictures: list[UInt8[np.ndarray, "S S 3"]]


def run_of(picture: Path, name: str, runs: Path) -> Path:
    """The newest draft run of that name, made if there is none."""
    found = sorted(runs.glob(f"{name}-*/refine/mesh.glb"))
    if not found:
        command = [sys.executable, "-m", "kiss3d_cli", "run", str(picture), "--preset", "draft", "--name", name]
        subprocess.run([*command, "--out", str(runs)], check=True, capture_output=True)
        found = sorted(runs.glob(f"{name}-*/refine/mesh.glb"))
    return found[-1].parents[1]


def compare(run: Path) -> Found:
    window, framed = run / "preprocess" / "window.json", run / "preprocess" / "image_rgba.png"
    model, _ = read_model(run / "refine" / "mesh.glb")
    model = dataclasses.replace(model, origin=RunPicture(run / "input.png", framed, window, 4.15))
    picture, mask = _full_size(run, read_png(framed)[..., 3])
    before = _front(model, mask)
    exported = {}
    facts = {}
    for faces in (None, FEW):
        made = export(model, Options(to="blender", origin="center", faces=faces), "mesh")
        file = run / f"export-{faces}.glb"
        file.write_bytes(made.files["mesh.glb"])
        shown, _ = read_model(file)
        file.unlink()
        exported[faces], facts[faces] = _front(_back_in_place(shown, model), mask), made.facts
    numbers = [_decibels(colors, picture, mask & seen) for colors, seen in (before, exported[None], exported[FEW])]
    strict = _decibels(np.where(exported[None][1][..., None], exported[None][0], 1.0), picture, mask)
    fronts = [(255 * colors).round().astype(np.uint8) for colors, _ in (before, exported[None], exported[FEW])]
    return Found(facts[None]["front_pixels"], facts[None]["texture"][0], *numbers, strict, [picture, *fronts])


def _full_size(run: Path, alpha: UInt8[np.ndarray, "S S"]) -> tuple[UInt8[np.ndarray, "S S 3"], np.ndarray]:
    """The picture as it was given, in its frame, and where the object is."""
    import json

    record = json.loads((run / "preprocess" / "window.json").read_text(encoding="utf-8"))
    given = load_picture(run / "input.png")
    cover = given.alpha if given.alpha is not None else np.full(given.rgb.shape[:2], 255, np.uint8)
    framed = frame_window(given.rgb, cover, (record["left"], record["top"], record["side"]), size=SIDE)
    mask = framed.mask
    if given.alpha is None:
        mask = np.array(Image.fromarray(alpha).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) >= 128
    return framed.rgba[..., :3], mask


def _back_in_place(shown: Model, model: Model) -> Model:
    """The file's origin is the middle of the box of the mesh that it was made of."""
    low, high = model.mesh.vertices.amin(0), model.mesh.vertices.amax(0)
    return shown.with_mesh(shown.mesh.with_vertices(shown.mesh.vertices + (low + high) / 2))


def _front(model: Model, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours and cover at the picture's place, at 1024 pixels."""
    assert model.texture is not None
    camera, _, shown = fit_front(model.mesh, bundle_cameras()[[0]], mask)
    drawn = render_texture(model.mesh, model.texture, camera, (SIDE, SIDE), antialiased=False)
    return drawn.colors[0].double().numpy(), shown


def _decibels(colors: np.ndarray, picture: np.ndarray, where: np.ndarray) -> float:
    return -10 * math.log10(float(((colors - picture / 255.0)[where] ** 2).mean()))


def sheet(rows: list[list[UInt8[np.ndarray, "S S 3"]]], path: Path) -> None:
    Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows])).save(path)
