"""Time and memory of the large reconstruction model at full size, on random weights of the published shapes.

    python scripts/bench/lrm.py --threads 2
    python scripts/bench/lrm.py --device simulated --dtype bfloat16     # video memory, where there is no GPU

Prints a Markdown table. Random weights cost what trained ones do, but their field has no object in it: the level set
through its median is taken as the surface. With --surface smooth the planes vary slowly, as an object's do; with
--surface noise most cells of the grid are crossed, the worst that can happen to time and memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from kiss3d_cli.core.memory import PeakMemory
from kiss3d_cli.geometry.extract.flexicubes import CubeWeights, dual_grid, flexicubes
from kiss3d_cli.methods.lrm import extract
from kiss3d_cli.models.lrm.cameras import BUNDLE_AZIMUTHS, MULTIVIEW_AZIMUTHS, camera_vectors
from kiss3d_cli.models.lrm.checkpoint import build, read
from kiss3d_cli.models.lrm.config import PRM
from kiss3d_cli.models.lrm.field import grid_axis
from kiss3d_cli.models.lrm.network import LargeReconstructionModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated_gpu import bench_device

ROWS: list[tuple[str, str]] = []


def row(name: str, value: str) -> None:
    ROWS.append((name, value))
    print(f"| {name} | {value} |", flush=True)


def write_random_weights(path: Path, surface: str) -> None:
    torch.manual_seed(0)
    model = LargeReconstructionModel(PRM)
    for name, value in model.named_parameters():
        if name.endswith(("_proj_weight", "pos_embed", "position_embeddings")):
            torch.nn.init.normal_(value, std=0.02)
    if surface == "smooth":
        side, width = PRM.plane_tokens, PRM.width
        coarse = torch.nn.functional.interpolate(torch.randn(3, width, 4, 4), size=(side, side), mode="bicubic")
        model.transformer.pos_embed.data = coarse.permute(0, 2, 3, 1).reshape(1, -1, width).contiguous()
        kernel = model.transformer.deconv.weight
        kernel.data = kernel.mean((2, 3), keepdim=True).expand_as(kernel).contiguous()
    save_file(model.state_dict(), path)


def bench_flexicubes() -> None:
    axis = grid_axis(PRM, 128)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    sdf = (torch.hypot(torch.hypot(points[..., 0], points[..., 2]) - 0.6, points[..., 1]) - 0.3).contiguous()
    raw = torch.randn(128**3, 21, generator=torch.Generator().manual_seed(0))
    weights = CubeWeights(alpha=raw[:, :8], beta=raw[:, 8:20], gamma=raw[:, 20])
    flat = points.reshape(-1, 3)
    flexicubes(flat, sdf, weights)
    start = time.perf_counter()
    mesh = flexicubes(flat, sdf, weights)
    row("FlexiCubes on 128^3, a torus", f"{time.perf_counter() - start:.2f} s, {len(mesh.faces):,} faces")


def bench_passes(path: Path, device: torch.device, dtype: torch.dtype) -> None:
    start = time.perf_counter()
    model = build(read(path), device=device, dtype=dtype)
    row("load from safetensors", f"{time.perf_counter() - start:.2f} s")
    images = torch.rand(4, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for number, azimuths in enumerate((MULTIVIEW_AZIMUTHS, BUNDLE_AZIMUTHS), 1):
        start, cpu = time.perf_counter(), time.process_time()
        field = model(images, camera_vectors(azimuths))
        mark = time.perf_counter()
        bias = model.synthesizer.decoder.net_sdf[6].bias
        if number == 1:  # not part of the work: puts a surface into the random field
            bias -= field.on_grid(grid_axis(PRM, 128).to(device)).sdf().median()
        skipped = time.perf_counter() - mark
        mesh = extract(field, PRM, 128)
        field.color(mesh.vertices)
        faces = len(mesh.faces.cpu())
        now = time.perf_counter()
        total += now - start - skipped
        network, surface = mark - start, now - mark - skipped
        work = time.process_time() - cpu
        row(f"pass {number}", f"{network:.1f} s network, {surface:.1f} s surface and colours ({faces:,} faces)")
        row(f"pass {number}, time of the cores", f"{work:.0f} core seconds")
        if number == 1:
            sdf = field.on_grid(grid_axis(PRM, 128).to(device)).sdf()
            row("crossed cells of 2,097,152", f"{len(dual_grid(sdf).cells):,}")
    row("both passes", f"{total:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--surface", default="smooth", choices=("smooth", "noise"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with bench_device(options.device) as device:
        report(options, device.torch)


def report(options: argparse.Namespace, device: torch.device) -> None:
    print(f"| {options.device}, {options.dtype}, {options.threads} threads, {options.surface} surface | |\n|---|---|")
    bench_flexicubes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_random_weights(path, options.surface)
        with PeakMemory() as peak:
            bench_passes(path, device, getattr(torch, options.dtype))
    row("peak resident memory", f"{peak.bytes / 2**30:.2f} GiB")
    if device.type != "cpu":
        row("peak video memory", f"{torch.get_device_module(device).max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
