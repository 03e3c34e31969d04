"""View synthesis on objects that were never trained on, against the nearest given view and the geometric route.

    kiss3d train data --objects FOLDER --views 12 --split held-out --procedural 0 --out outputs/lvsm/held-out
    python scripts/bench/lvsm.py --weights outputs/lvsm/run/lvsm.safetensors [--views DIR] [--objects 48]
    python scripts/bench/lvsm.py --weights ... --lpips DIR      # with alexnet*.pth and alex.pth
    python scripts/bench/lvsm.py --weights ... --sheet docs/lvsm.png  # given; drawn, geometric and true, twice
    python scripts/bench/lvsm.py --curve outputs/lvsm/run       # PSNR over training, from its log
    python scripts/bench/lvsm.py --rate [--device cuda] [--batch 256 1024] [--width 768 --layers 12]

Given are views of the bundle's ring; asked for are the ring's other views and two random ones. PSNR, SSIM and, where
its weights are, LPIPS are of colours on white at the network's size, means over all pictures. The geometric route is
what `multiview.method=inflate` does: the surface carved from the given silhouettes, or the inflated front, painted by
the given pictures. `--rate` compares a training step's matrix operations a second with those of the device's own
matrix product. Times are of this process on one thread. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kiss3d_cli.geometry.cameras import FAR, NEAR, Cameras, bundle_cameras
from kiss3d_cli.geometry.inflate.inflate import inflate
from kiss3d_cli.geometry.render import render_colors
from kiss3d_cli.image.views import VIEW_NAMES
from kiss3d_cli.methods.multiview.given import Given, show_given
from kiss3d_cli.models.lvsm.config import LvsmConfig
from kiss3d_cli.models.lvsm.network import Lvsm
from kiss3d_cli.models.lvsm.perceptual import Lpips, read_lpips
from kiss3d_cli.models.lvsm.quality import psnr, ssim
from kiss3d_cli.models.lvsm.weights import load
from kiss3d_cli.models.lvsm.work import step_flops
from kiss3d_cli.training.lvsm import TRIALS, held_out_batches, nearest
from kiss3d_cli.training.lvsm_batches import LvsmBatch

FINE = 2
SHOWN, ASKED = 4, 2
"""Objects of each trial on the sheet, and views of each."""
PAINTED = 256
"""Pixels a side to which the geometric route's pictures are enlarged: it measures margins in pixels."""


def geometric(batch: LvsmBatch, number: int, names: list[str]) -> Tensor:
    """(T, 3, S, S): what the carved or inflated surface shows from the cameras that are asked for."""
    rgba = torch.nn.functional.interpolate(batch.given.rgba[number], (PAINTED, PAINTED), mode="bicubic").clamp(0, 1)
    alpha = rgba[:, 3:]
    own = ((rgba[:, :3] - 1 + alpha) / alpha.clamp_min(1e-3)).clamp(0, 1)
    given = Given(tuple(names), torch.cat([own, alpha], 1).permute(0, 2, 3, 1).contiguous())
    cameras = bundle_cameras()
    shown = show_given(given, cameras, PAINTED, lambda front: (inflate(front[..., 3], cameras[[0]]).mesh, 1.0))
    size = batch.asked.rgba.shape[-1]
    asked = cameras_of(batch.asked.world_to_camera[number], batch.asked.intrinsics[number])
    views = render_colors(shown.mesh, asked, (size * FINE, size * FINE), antialiased=False).colors
    return views.reshape(-1, size, FINE, size, FINE, 3).mean((2, 4)).permute(0, 3, 1, 2)


def cameras_of(world_to_camera: Tensor, intrinsics: Tensor) -> Cameras:
    projection = torch.zeros(len(intrinsics), 4, 4)
    projection[:, 0, 0], projection[:, 1, 1] = 2 * intrinsics[:, 0], 2 * intrinsics[:, 1]
    projection[:, 2, 2], projection[:, 2, 3] = -(FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)
    projection[:, 3, 2] = -1
    return Cameras(world_to_camera, projection)


def bench(network: Lvsm, views: Path, objects: int, lpips: Lpips | None, sheet: Path | None) -> None:
    columns = ["PSNR, dB", "SSIM", *(["LPIPS"] if lpips else [])]
    print(f"| given | route | pictures | {' | '.join(columns)} |\n|---|---|---|{'---|' * len(columns)}")
    rows = []
    for name, (given, guess) in TRIALS.items():
        asked = 3 if guess else 6 - len(given)
        found: dict[str, list[Tensor]] = {}
        shown = 0
        for batch in held_out_batches(views, network.config, given, guess, objects * asked):
            drawn = network(*batch.planes()).clamp(0, 1)[:, :, :3]
            carved = [geometric(batch, number, [VIEW_NAMES[view] for view in given]) for number in range(len(drawn))]
            truth = batch.asked.rgba[:, :, :3]
            routes = {"this model": drawn, "nearest view": nearest(batch), "geometric": torch.stack(carved)}
            if batch.guess is not None:
                routes["the guess that it is given"] = batch.guess[:, :, :3]
            for route, pictures in routes.items():
                flat, true = pictures.flatten(0, 1), truth.flatten(0, 1)
                scores = [psnr(flat, true), ssim(flat, true), *([lpips(flat, true)] if lpips else [])]
                found.setdefault(route, []).append(torch.stack(scores, -1))
            for number in range(0, len(drawn), 4)[: SHOWN - shown]:
                tiles = [batch.given.rgba[number, :, :3].unbind()]
                tiles += list(zip(drawn[number], carved[number], truth[number], strict=True))[:ASKED]
                rows.append(torch.cat([one for group in tiles for one in group], -1))
                shown += 1
        for route, scores in found.items():
            every = torch.cat(scores)
            values = " | ".join(f"{value:.3f}" for value in every.mean(0).tolist())
            print(f"| {name} | {route} | {len(every)} | {values} |", flush=True)
    if sheet is not None and rows:
        width = max(row.shape[-1] for row in rows)
        padded = [torch.nn.functional.pad(row, (0, width - row.shape[-1]), value=1.0) for row in rows]
        Image.fromarray((255 * torch.cat(padded, 1).permute(1, 2, 0)).round().byte().numpy()).save(sheet)


def speed(network: Lvsm, views: Path) -> None:
    for name, (given, guess) in TRIALS.items():
        batch = next(held_out_batches(views, network.config, given, guess, 6))
        seen, asked = (planes[:1] for planes in batch.planes())
        times = []
        for _ in range(9):
            start = time.process_time()
            network(seen, asked[:, :1])
            times.append(time.process_time() - start)
        print(f"{name}: {float(np.median(times)) * 1000:.0f} ms of processor time a view, with its scene")


def curve(run: Path) -> None:
    print("| step | seconds | 4 given | nearest | 2 given | 1 given and guess | guess |\n|---|---|---|---|---|---|---|")
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "held_out" in row:
            figures = [row["held_out"][key] for key in ("4 given", "nearest", "2 given", "1 given and guess", "guess")]
            print(f"| {row['step']} | {row['seconds']:.0f} | {' | '.join(f'{value:.2f}' for value in figures)} |")


def rate(config: LvsmConfig, device: str, batch: int) -> None:
    """A training step against the device's matrix product, in bfloat16 on a GPU."""
    half = torch.bfloat16 if device.startswith("cuda") else torch.float32
    size = 8192 if device.startswith("cuda") else 1024

    def seconds(work: object, times: int = 7) -> float:
        taken = []
        for _ in range(times + 2):
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            start = time.perf_counter() if device.startswith("cuda") else time.process_time()
            work()  # type: ignore[operator]
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            taken.append((time.perf_counter() if device.startswith("cuda") else time.process_time()) - start)
        return float(np.median(taken[2:]))

    a, b = (torch.randn(size, size, device=device, dtype=half) for _ in range(2))
    peak = 2 * size**3 / seconds(lambda: a @ b)
    network = Lvsm(config).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    views = torch.rand(batch, 4, 10, config.size, config.size, device=device)
    queries = torch.rand(batch, 3, 11, config.size, config.size, device=device)

    def step() -> None:
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=half == torch.bfloat16):
            loss = (network(views, queries) - 0.5).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    taken = seconds(step)
    reached = step_flops(config, batch, 4, 3) / taken
    speeds = f"matrix product {peak / 1e9:.1f} GFLOP/s, step {reached / 1e9:.1f} GFLOP/s: {reached / peak:.2f} of it"
    print(f"batch {batch}, {speeds}")
    each = f"{step_flops(config, 1, 4, 3) / 1e9:.2f} GFLOP an object (4 given, 3 asked)"
    print(f"{each}, {batch / taken:.1f} objects/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("outputs/lvsm/run/lvsm.safetensors"))
    parser.add_argument("--views", type=Path, default=Path("outputs/lvsm/held-out"))
    parser.add_argument("--objects", type=int, default=48)
    parser.add_argument("--lpips", type=Path, help="a folder with alexnet*.pth and alex.pth")
    parser.add_argument("--sheet", type=Path, help="draw some of the pictures to this file")
    parser.add_argument("--curve", type=Path, help="a training run: print its held-out figures over time")
    parser.add_argument("--rate", action="store_true", help="operations a second of a training step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="objects a step")
    parser.add_argument("--width", type=int, default=192, help="of the network whose rate is asked; the paper has 768")
    parser.add_argument("--layers", type=int, default=5, help="of its encoder, and of its decoder; the paper has 12")
    given = parser.parse_args()
    if given.curve:
        curve(given.curve)
        return
    if given.rate:
        sizes = {"width": given.width, "heads": max(1, given.width // 32), "encoder": given.layers}
        config = LvsmConfig(**sizes, decoder=given.layers)
        for batch in given.batch:
            try:
                rate(config, given.device, batch)
            except torch.OutOfMemoryError:
                print(f"batch {batch}: out of memory", flush=True)
        return
    network = load(given.weights).network
    with torch.inference_mode():
        bench(network, given.views, given.objects, read_lpips(given.lpips) if given.lpips else None, given.sheet)
        speed(network, given.views)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
