"""The wavelet diffusion model on objects that were never trained on, against the visual hull; and its transform.

    python scripts/bench/wavemesh.py --objects FOLDER --weights outputs/wavemesh/run/wavemesh.safetensors
    python scripts/bench/wavemesh.py --objects FOLDER --weights ... --views prior   # views that the prior draws
    python scripts/bench/wavemesh.py --objects FOLDER --weights ... --sheet docs/wavemesh.png
    python scripts/bench/wavemesh.py --objects FOLDER --table      # coefficients against their threshold
    python scripts/bench/wavemesh.py --speed                       # of the transform
    python scripts/bench/wavemesh.py --curve outputs/wavemesh/run  # over training time, from its log
    python scripts/bench/wavemesh.py --rate [--device cuda] [--batch 64]

Objects are those of the held-out families (training/held_out.py), in the bundle's place. Truth is the surface of
their signed distances on 64^3 cells. IoU is that of the cells of this grid inside it; Chamfer distance and F-score at
0.05 are between 20,000 samples of each surface, half the longest side of an object being 0.95. The hull is carved from
the same four views on 64^3 cells, and as `reconstruct.method=hull` does. Times are processor time of one thread.
Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.geometry.cameras import bundle_cameras
from kiss3d_cli.geometry.extract.hull import visual_hull
from kiss3d_cli.geometry.inflate.inflate import shrink_into_views
from kiss3d_cli.geometry.mesh import Mesh, face_normals
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.geometry.truncated import Grid, hull_distances, truncated_distance
from kiss3d_cli.image.framing import frame_foreground
from kiss3d_cli.methods.multiview.prior_shape import shape_of
from kiss3d_cli.methods.wavemesh import agreement, surfaces
from kiss3d_cli.models.prior import weights as prior
from kiss3d_cli.models.wavemesh.config import HULL_SIZE, WaveMeshConfig
from kiss3d_cli.models.wavemesh.inference import Sampling, draw, planes_of
from kiss3d_cli.models.wavemesh.network import WaveMesh
from kiss3d_cli.models.wavemesh.views import PosedImages
from kiss3d_cli.models.wavemesh.wavelets import BUILT_IN, Wavelet, sparse
from kiss3d_cli.models.wavemesh.weights import load
from kiss3d_cli.training.fields import pictures, placed
from kiss3d_cli.training.held_out import HELD_OUT
from kiss3d_cli.training.looks import Look, draw_look
from kiss3d_cli.training.objects import find_objects, read_object
from kiss3d_cli.training.wavemesh import shaded

FINE = Grid(64)
POINTS = 20_000
NEAR = 0.05


def sampled(mesh: Mesh, seed: int) -> np.ndarray:
    """Points of a surface, by area."""
    generator = torch.Generator().manual_seed(seed)
    area = face_normals(mesh.vertices, mesh.faces).norm(dim=-1)
    face = torch.multinomial(area, POINTS, replacement=True, generator=generator)
    share = -torch.rand(POINTS, 3, generator=generator).clamp_min(1e-9).log()
    share = share / share.sum(-1, keepdim=True)
    return (mesh.vertices[mesh.faces[face]] * share[..., None]).sum(1).numpy()


def distances(mesh: Mesh, truth: Mesh) -> tuple[float, float]:
    """Chamfer distance (mean of both means) and F-score."""
    a, b = sampled(mesh, 0), sampled(truth, 1)
    there, back = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    precision, recall = float((there < NEAR).mean()), float((back < NEAR).mean())
    return float(there.mean() + back.mean()) / 2, 2 * precision * recall / max(precision + recall, 1e-9)


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum()) / max(1.0, float((one | other).sum()))


def inside(volume: Tensor) -> Tensor:
    """Cells of the fine grid that are inside a volume of fewer cells; interpolated linearly."""
    places = FINE.points().flip(-1)[None] / FINE.bound
    values = torch.nn.functional.grid_sample(volume[None, None], places, padding_mode="border", align_corners=False)
    return values[0, 0] < 0


def plain_look() -> Look:
    look = draw_look(np.random.default_rng(0))
    fixed = {"paint": "own", "unlit": True, "smooth": True, "crease": 0.7, "texture": 0.0, "outline": 0.0}
    return type(look)(**{**vars(look), **fixed})


def objects(folder: Path, each: int) -> list[tuple[str, str, Mesh]]:
    """Family, name and mesh of the first objects of every held-out family."""
    found = find_objects(folder)
    picked = []
    for family in HELD_OUT:
        entries = found.of_family(family)
        some = entries[:: max(1, len(entries) // each)][:each]
        picked += [(family, entry.name, placed(read_object(entry))) for entry in some]
    return picked


def by_prior(mesh: Mesh) -> Mesh:
    """What the learned prior makes of the object's front view: the views of a run from one picture show this."""
    cameras = bundle_cameras()
    colors = torch.full_like(mesh.vertices, 0.6) if mesh.colors is None else mesh.colors
    front = render_colors(mesh.with_colors(colors), cameras[[0]], (512, 512))
    rgb = (front.colors[0] * 255).round().byte().numpy()
    framed = frame_foreground(rgb, (front.mask[0] * 255).round().byte().numpy())
    guess = shape_of(prior.load().network, framed.rgba, cameras[[0]]).mesh
    return shrink_into_views(guess, cameras)


def measure(options: argparse.Namespace) -> None:
    network = load(options.weights).network
    config = network.config
    grid, cameras, look = Grid(config.resolution), bundle_cameras(), plain_look()
    sampling = Sampling(options.steps, "ddim", options.guidance, options.samples, symmetries=options.symmetries)
    rows: dict[str, list[dict[str, float]]] = {}
    drawn = []
    for family, name, mesh in objects(options.objects, options.each):
        try:
            volume = truncated_distance(mesh, FINE, 2 * FINE.cell)
            (truth,) = surfaces(volume[None])
        except (BadInput, ValueError):
            continue
        shown = by_prior(mesh) if options.views == "prior" else mesh
        colors = torch.full_like(shown.vertices, 0.6) if shown.colors is None else shown.colors
        fine = pictures(shown, cameras, look, colors, HULL_SIZE)
        hull_mesh = visual_hull(fine[..., 6], cameras)
        hull = hull_distances(fine[..., 6], cameras, grid, config.truncation * grid.cell).amax(0)
        hull_fine = hull_distances(fine[..., 6], cameras, FINE, 2 * FINE.cell).amax(0)
        images = PosedImages(
            planes_of(fine[..., :3], fine[..., 3:6], fine[..., 6], config.image),
            cameras.world_to_camera[None],
            cameras.projection[None, :, 0, 0],
            torch.ones(1, 4, dtype=torch.bool),
        )
        started = time.process_time()
        volumes = draw(network, hull[None], images, sampling)
        seconds = (time.process_time() - started) / options.samples
        meshes = surfaces(volumes)
        if len(meshes) < options.samples:
            print(f"{family} {name}: {options.samples - len(meshes)} samples hold nothing")
        if not meshes:
            continue
        scores = [agreement(one, fine[..., 6] > 0.5, fine[..., 3:6], cameras).score for one in meshes]
        kept = int(np.argmax(scores))
        ious = [iou(inside(one), volume < 0) for one in volumes if bool((one < 0).any())]
        found = distances(meshes[kept], truth)
        carved = distances(hull_mesh, truth)
        rows.setdefault(family, []).append(
            {
                "iou": ious[kept],
                "hull iou": iou(hull_fine < 0, volume < 0),
                "chamfer": found[0],
                "hull chamfer": carved[0],
                "f": found[1],
                "hull f": carved[1],
                "spread": float(np.std(ious)),
                "mean of samples": float(np.mean(ious)),
                "seconds": seconds,
            }
        )
        if options.sheet is not None and len(drawn) < 12:
            front = fine[0, ..., :3]
            tiles = [front, *(tile for one in (truth, hull_mesh, *meshes[:3]) for tile in shaded(one, HULL_SIZE))]
            most = 5 + 2 * min(3, options.samples)
            tiles += [torch.ones_like(front)] * (most - len(tiles))
            drawn.append(torch.cat(tiles[:most], 1))
    keys = list(next(iter(rows.values()))[0])
    print("| objects | n | " + " | ".join(keys) + " |")
    print("|---" * (len(keys) + 2) + "|")
    rows["**all**"] = [row for found in rows.values() for row in found]
    for family, found in rows.items():
        means = " | ".join(f"{np.mean([row[key] for row in found]):.3f}" for key in keys)
        print(f"| {family} | {len(found)} | {means} |")
    if options.sheet is not None and drawn:
        Image.fromarray((torch.cat(drawn) * 255).round().byte().numpy()).save(options.sheet)


def table(options: argparse.Namespace) -> None:
    """What is lost by dropping coefficients: the volume of the kept ones against that of all."""
    picked = []
    for _, _, mesh in objects(options.objects, options.each):
        volume = truncated_distance(mesh, FINE, 2 * FINE.cell)
        if bool((volume < 0).any()):
            picked.append(volume)
    print(f"{len(picked)} objects, 64^3 cells, level 2")
    print("| wavelet | threshold | coefficients | bytes | IoU | Chamfer |")
    print("|---|---|---|---|---|---|")
    for name in BUILT_IN:
        wavelet = Wavelet(name, 64, 2)
        for threshold in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0):
            kept = [sparse(volume, wavelet, threshold=threshold) for volume in picked]
            again = [one.volume() for one in kept]
            overlap = np.mean([iou(a < 0, b < 0) for a, b in zip(again, picked, strict=True)])
            chamfer = np.mean(
                [
                    distances(surfaces(a[None])[0], surfaces(b[None])[0])[0]
                    for a, b in zip(again, picked, strict=True)
                    if bool((a < 0).any())
                ]
            )
            count = np.mean([len(one.values) for one in kept])
            size = np.mean([one.bytes for one in kept])
            print(f"| {name} | {threshold} | {count:,.0f} | {size:,.0f} | {overlap:.4f} | {chamfer:.4f} |")


def speed() -> None:
    """Processor time of transform and inverse of 64^3 on one thread, medians of 20."""
    volume = torch.randn(1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    print("| wavelet | transform, ms | inverse, ms | PyWavelets, ms |")
    print("|---|---|---|---|")
    for name in BUILT_IN:
        wavelet = Wavelet(name, 64, 2)
        packed = wavelet.transform(volume)

        def median(call: object, count: int = 20) -> float:
            spent = []
            for _ in range(count):
                started = time.process_time()
                call()  # type: ignore[operator]
                spent.append(time.process_time() - started)
            return 1000 * float(np.median(spent))

        try:
            import pywt

            array = volume[0].numpy()
            other = f"{median(lambda: pywt.wavedecn(array, name, mode='periodization', level=2)):.1f}"  # noqa: B023
        except ImportError:
            other = "not installed"
        there = median(lambda: wavelet.transform(volume))  # noqa: B023
        back = median(lambda: wavelet.inverse(packed))  # noqa: B023
        print(f"| {name} | {there:.1f} | {back:.1f} | {other} |")


def curve(run: Path) -> None:
    """Held-out figures over training, from the log."""
    print("| step | hours | IoU | hull | error of distances | hull |")
    print("|---|---|---|---|---|---|")
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "held_out" in row:
            found = row["held_out"]
            print(
                f"| {row['step']:,} | {row['seconds'] / 3600:.2f} | {found['iou']:.3f} | {found['hull_iou']:.3f} "
                f"| {found['field']:.4f} | {found['hull']:.4f} |"
            )


def rate(options: argparse.Namespace, count: int) -> None:
    """A training step's matrix operations a second against those of the device's own matrix product."""
    from torch.utils.flop_counter import FlopCounterMode

    device = torch.device(options.device)
    config = WaveMeshConfig() if options.weights is None else load(options.weights).network.config
    network = WaveMesh(config).to(device)
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = 8192 if device.type == "cuda" else 1024

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    a = torch.randn(side, side, device=device, dtype=half)
    for _ in range(3):
        a @ a
    started = clock()
    for _ in range(10):
        a @ a
    best = 10 * 2 * side**3 / (clock() - started)
    size, cameras = config.resolution, bundle_cameras()
    grid = Grid(size)
    ball = ((grid.points().norm(dim=-1) - 0.7) / (config.truncation * grid.cell)).clamp(-1, 1).to(device)
    volume = ball.expand(count, -1, -1, -1)
    images = PosedImages(
        torch.rand(count, 4, 7, config.image, config.image),
        cameras.world_to_camera.expand(count, 4, 4, 4),
        cameras.projection[:, 0, 0].expand(count, 4),
        torch.ones(count, 4, dtype=torch.bool),
    ).to(device)
    transform = config.transform
    noise = torch.randn(count, transform.side**3, transform.channels, device=device)
    times = torch.randint(config.steps, (count,), device=device)
    hidden = torch.zeros(count, dtype=torch.bool, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = network(volume, volume, images, hidden, times, noise)
        (found.said - found.target).square().mean().backward()

    counter = FlopCounterMode(display=False)
    with counter:
        step()
    for _ in range(2):
        step()
    started = clock()
    for _ in range(5):
        step()
    mine = 5 * counter.get_total_flops() / (clock() - started)
    speeds = f"{mine / 1e12:.3f} TFLOP/s of {best / 1e12:.3f}, share {mine / best:.2f}"
    print(f"{options.device}, batch {count}: {speeds}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=Path, help="the folder of objects")
    parser.add_argument("--weights", type=Path, help="of the network")
    parser.add_argument("--each", type=int, default=8, help="objects of each held-out family")
    parser.add_argument("--views", choices=["true", "prior"], default="true", help="the object's, or the prior's")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--symmetries", type=int, default=8, help="worlds that a sample is the mean of")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--sheet", type=Path, help="a picture of the first objects")
    parser.add_argument("--table", action="store_true", help="coefficients against their threshold")
    parser.add_argument("--speed", action="store_true", help="of the transform")
    parser.add_argument("--curve", type=Path, help="a training run")
    parser.add_argument("--rate", action="store_true", help="operations a second of a training step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="objects a step")
    options = parser.parse_args()
    if options.speed:
        speed()
    elif options.curve is not None:
        curve(options.curve)
    elif options.rate:
        for batch in options.batch:
            try:
                rate(options, batch)
            except torch.OutOfMemoryError:
                print(f"batch {batch}: out of memory", flush=True)
    elif options.objects is None or (options.weights is None and not options.table):
        parser.error("--objects and --weights are needed")
    else:
        with torch.inference_mode():
            (table if options.table else measure)(options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
