"""Colours of what no picture shows, against the true ones.

    python scripts/bench/unseen.py draft data/examples [--sheet sheet.png]
    python scripts/bench/unseen.py views data/examples

`draft` inflates each example's picture and looks at its sides and its back beside the example's own bundle, which was
rendered from the object: mean difference (CIE 1976, in CIELAB) where both show the object, the share of pixels whose
colour the picture does not have (none of its colours is nearer than 10), and the back's PSNR. The front is left out,
and the bundle's light is not the picture's, so no guess would come to zero. The step is the mean difference, of 255,
from just before the outline to just behind it.

`views` paints each example's own mesh from pictures of some of its sides: mean difference over the surface that none of
them shows, by the number of pictures.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from draft_baselines import example_case
from jaxtyping import Bool, Float
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.inflate.sheet_colors import SheetColors
from kiss3d_cli.geometry.inflate.views import show_surface
from kiss3d_cli.geometry.io.load import read_mesh
from kiss3d_cli.geometry.materials import lab as lab_of
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.geometry.texture.mirror import with_mirror_images
from kiss3d_cli.geometry.texture.project import Photographs, Projector, project_colors
from kiss3d_cli.image.bundle import split_bundle
from kiss3d_cli.image.png import read_png

SIDE = 256
FOREIGN = 10.0
_RARE = 2e-4
"""Share of a picture's pixels below which it does not have a colour."""


def lab(colors: Float[Tensor, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return lab_of(colors.double().numpy())


def colors_of(rgb: Float[Tensor, "N 3"]) -> cKDTree:
    """The colours that a picture has, in steps of 4."""
    found, count = np.unique((rgb * 255).round().numpy().astype(np.int64) >> 2, axis=0, return_counts=True)
    return cKDTree(lab_of((found[count >= _RARE * len(rgb)] * 4 + 1.5) / 255))


def draft(options: argparse.Namespace) -> None:
    cameras = bundle_cameras()
    columns = ("object", "sides", "back", "foreign, sides", "foreign, back", "back, dB", "step", "processor, s")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    rows, scores = [], []
    for folder in sorted(path.parent for path in options.examples.glob("*/bundle.png")):
        case = example_case(folder)
        rgba = torch.from_numpy(case.framed.rgba.copy()).float() / 255
        rgb, alpha = rgba[..., :3], rgba[..., 3]
        surface = inflate(alpha, cameras[[0]], views=cameras, depth=0.95)
        began = time.process_time()
        colors = SheetColors(rgb.double().numpy(), alpha.double().numpy())
        seconds = time.process_time() - began
        shown = show_surface(surface, rgb, alpha, cameras, (SIDE, SIDE), colors).views
        bundle = split_bundle(read_png(folder / "bundle.png")[..., :3], place=folder.name)
        true = _halved(bundle.rgb)
        both = (shown < 1).any(-1) & (_halved(bundle.mask[..., None].float())[..., 0] > 0.99)
        known = colors_of(rgb[alpha > 0.9])
        away = [np.linalg.norm(lab(shown[i][both[i]]) - lab(true[i][both[i]]), axis=1).mean() for i in (1, 2, 3)]
        foreign = [100 * (known.query(lab(shown[i][both[i]]))[0] > FOREIGN).mean() for i in (1, 2, 3)]
        scores.append([(away[0] + away[2]) / 2, away[1], (foreign[0] + foreign[2]) / 2, foreign[1]])
        error = (shown[2] - true[2])[both[2]].square().mean()
        scores[-1] += [-10 * math.log10(float(error)), _step(colors, alpha.numpy() > 0.5), seconds]
        print(_row(folder.name, scores[-1]), flush=True)
        rows.append(torch.cat([*shown[1:], *true[1:]], 1))
    print(_row("mean", np.mean(scores, 0)))
    if options.sheet:
        Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(options.sheet)


def _step(colors: SheetColors, solid: Bool[np.ndarray, "S S"]) -> float:
    """Along the outline."""
    depth = distance_transform_edt(solid)
    places = (np.argwhere(solid & (depth < 2.5))[:, ::-1] + 0.5) / len(solid)
    before, behind = (colors.at(places, np.full(len(places), facing)) for facing in (0.12, -0.02))
    return float(255 * np.abs(before - behind).mean())


def _row(name: str, values: list[float] | np.ndarray) -> str:
    units = ("", "", " %", " %", "", "", "")
    cells = [f"{value:.{2 if i == 6 else 1}f}{unit}" for i, (value, unit) in enumerate(zip(values, units, strict=True))]
    return f"| {' | '.join([name, *cells])} |"


def views(options: argparse.Namespace) -> None:
    cameras = bundle_cameras()
    trials = {"front": [0], "front, right": [0, 1], "four sides": [0, 1, 2, 3]}
    print(f"| object | {' | '.join(trials)} | processor, s |\n{'|---' * (len(trials) + 2)}|")
    scores = []
    for file in sorted(options.examples.glob("*/mesh.ply")):
        mesh = _framed(read_mesh(file))
        assert mesh.colors is not None
        taken = render_colors(mesh, cameras, (2 * SIDE, 2 * SIDE), antialiased=False)
        row, seconds = [], 0.0
        for chosen in trials.values():
            pictures = taken.colors[chosen], taken.mask[chosen] > 0.5, torch.ones(len(chosen))
            photographs = Photographs(cameras[chosen], *pictures)
            unseen = Projector(mesh, photographs).at_vertices.trust < 0.5
            began = time.process_time()
            found = project_colors(mesh, with_mirror_images(mesh, photographs))
            seconds += time.process_time() - began
            away = np.linalg.norm(lab(found) - lab(mesh.colors), axis=1)
            weight = (_areas(mesh) * unseen).double().numpy()
            row.append(float((away * weight).sum() / weight.sum()))
        scores.append([*row, seconds / len(trials)])
        print(
            f"| {file.parent.name} | {' | '.join(f'{value:.1f}' for value in row)} | {scores[-1][-1]:.2f} |", flush=True
        )
    *means, seconds = np.mean(scores, 0)
    print(f"| mean | {' | '.join(f'{value:.1f}' for value in means)} | {seconds:.2f} |")


def _framed(mesh: Mesh) -> Mesh:
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    return mesh.with_vertices((mesh.vertices - (low + high) / 2) * (1.6 / float((high - low).max())))


def _areas(mesh: Mesh) -> Float[Tensor, " N"]:
    """A third of those of the faces around every vertex."""
    area = face_normals(mesh.vertices, mesh.faces).norm(dim=1) / 6
    return area.new_zeros(len(mesh.vertices)).index_add(0, mesh.faces.reshape(-1), area.repeat_interleave(3))


def _halved(pictures: Float[Tensor, "V H W C"]) -> Float[Tensor, "V S S C"]:
    return torch.nn.functional.interpolate(pictures.permute(0, 3, 1, 2), (SIDE, SIDE), mode="area").permute(0, 2, 3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("draft")
    one.add_argument("examples", type=Path)
    one.add_argument("--sheet", type=Path, help="each object's sides and back, and its true ones")
    one.set_defaults(do=draft)
    two = commands.add_parser("views")
    two.add_argument("examples", type=Path)
    two.set_defaults(do=views)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.do(options)


if __name__ == "__main__":
    main()
