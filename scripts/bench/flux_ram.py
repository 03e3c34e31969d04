"""Host memory and time of every part of the bundle on full-size weights, each in a process of its own, on the CPU.

python scripts/make_checkpoints.py --size full --only flux --out ROOT        # 25 GB, and 15 GB more when prepared
python scripts/bench/flux_ram.py --root ROOT [--only "T5, 512 words" ...]

What is mapped from a file is memory that the system takes back when it needs it. The anonymous memory is what the
process can't do without; it is sampled every 20 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kiss3d_cli.models.flux import latents as latent
from kiss3d_cli.models.flux.denoise import Prompt, denoise
from kiss3d_cli.models.flux.loading import (
    DEV_FILE,
    load_clip,
    load_controlnet,
    load_t5,
    load_transformer,
    load_vae,
)
from kiss3d_cli.models.flux.redux import load_redux
from kiss3d_cli.models.flux.schedule import Schedule
from kiss3d_cli.models.flux.text import clip_summary, t5_states

CPU, WIDE, GIB = torch.device("cpu"), torch.float32, 2**30
ROWS, COLUMNS = 32, 64
"""Latents of a bundle of 128 px tiles: a call of the transformer takes minutes on a CPU as it is."""


def source(root: Path) -> Path:
    return root / "Comfy-Org" / "flux1-dev" / DEV_FILE


def transformer(root: Path) -> torch.nn.Module:
    lora = root / "LTT" / "Kiss3DGen" / "rgb_normal.safetensors"
    return load_transformer(source(root), lora, 1.0, WIDE, device=CPU)


def controlnet(root: Path) -> torch.nn.Module:
    folder = root / "InstantX" / "FLUX.1-dev-Controlnet-Union"
    return load_controlnet(folder / "diffusion_pytorch_model.safetensors", WIDE)


def redux(root: Path) -> torch.Tensor:
    tokens: torch.Tensor = load_redux(root / "black-forest-labs" / "FLUX.1-Redux-dev", WIDE)(
        np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    )
    return tokens


def call(root: Path) -> None:
    prompt = Prompt(torch.randn(1, 512 + 729, 4096), torch.randn(1, 768))
    noise = latent.noise(ROWS, COLUMNS, 16, 0)
    places = latent.token_places(ROWS, COLUMNS, CPU)
    one = Schedule("euler", (1.0, 0.0))
    answer = denoise(transformer(root), None, one, noise, prompt, [], places, 3.5, WIDE)
    assert answer.shape == noise.shape


PARTS: dict[str, Callable[[Path], object]] = {
    "imports alone": lambda _root: None,
    "transformer, LoRA folded and written": transformer,
    "transformer, mapped as prepared": transformer,
    "ControlNet, narrowed and written": controlnet,
    "ControlNet, mapped as prepared": controlnet,
    "T5, 512 words": lambda root: t5_states(load_t5(source(root), WIDE), torch.zeros(1, 512, dtype=torch.long)),
    "CLIP, 77 words": lambda root: clip_summary(load_clip(source(root), WIDE), torch.full((1, 77), 49407)),
    "Redux, one picture": redux,
    "VAE, 1280 x 640 decoded": lambda root: latent.decode(
        load_vae(source(root), WIDE), torch.randn(1, 3200, 64), 640, 1280
    ),
    "one call of the transformer, 1,753 tokens": call,
}


def anonymous_bytes() -> int:
    """Of this process; Linux alone tells it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def measure(name: str, root: Path) -> None:
    """Print the part's row."""
    before, done = anonymous_bytes(), threading.Event()
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        PARTS[name](root)
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    print(f"| {name} | {seconds:.1f} | {(peak - before) / GIB:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="full-size weights, made by make_checkpoints.py")
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        measure(options.part, options.root)
        return
    print("| what | seconds | anonymous memory, GiB |\n|---|---|---|", flush=True)
    for name in options.only or PARTS:
        subprocess.run([sys.executable, __file__, "--root", options.root, "--part", name], check=True)


if __name__ == "__main__":
    main()
