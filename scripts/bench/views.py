"""Memory and time of the models between the picture and the four views, as Markdown tables.

python scripts/make_checkpoints.py --size full --out ROOT --only florence2 zero123plus
python scripts/bench/views.py load --root ROOT
python scripts/bench/views.py views --root ROOT --device cuda --tile 512 --steps 50
python scripts/bench/views.py caption --root ROOT --device cuda

The memory without a GPU, on simulated ones (`simulated_gpu`); the times mean nothing there:
python scripts/bench/views.py views --root ROOT --device hollow --steps 2
python scripts/bench/views.py caption --root ROOT --device simulated

Random weights take the memory and the time of the real ones; a caption of random words runs to its last token.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.core.memory import PeakMemory
from kiss3d_cli.models.florence2 import captioner
from kiss3d_cli.models.runtime.pretrained import load_module, load_weights
from kiss3d_cli.models.zero123plus import pipeline
from kiss3d_cli.models.zero123plus.attention import ReferenceUnet
from kiss3d_cli.models.zero123plus.networks import Networks
from kiss3d_cli.models.zero123plus.sampler import Condition, Noise, denoise

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated_gpu import bench_device

FLORENCE = "florence-community/Florence-2-large"
ZERO123PLUS = "sudo-ai/zero123plus-v1.2"
FLEXGEN = "LTT/Kiss3DGen/flexgen.ckpt"
PARTS = {
    "Florence-2": f"{FLORENCE}/model.safetensors",
    "UNet": "LTT/Kiss3DGen/flexgen.safetensors",
    "VAE": f"{ZERO123PLUS}/vae/diffusion_pytorch_model.safetensors",
    "text encoder": f"{ZERO123PLUS}/text_encoder/model.safetensors",
    "vision encoder": f"{ZERO123PLUS}/vision_encoder/model.safetensors",
}


@dataclasses.dataclass(frozen=True)
class Steps:
    """Seconds of a denoising loop and of the bare network calls in it."""

    loop: float
    bare: float

    @property
    def ratio(self) -> float:
        return self.loop / self.bare


def load_part(root: Path, part: str, device: DeviceInfo) -> Any:
    """One network, as its stage loads it."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection, Florence2ForConditionalGeneration

    where: dict[str, Any] = {
        "device": device.torch,
        "dtype": device.half if part == "Florence-2" else device.float16,
        "hint": "",
    }
    folder = root / ZERO123PLUS
    if part == "UNet":
        unet = pipeline.empty_unet(folder)
        load_weights(unet, root / PARTS[part], **where)
        return unet
    if part == "Florence-2":
        return load_module(Florence2ForConditionalGeneration, root / FLORENCE, **where)
    kinds = {"VAE": AutoencoderKL, "text encoder": CLIPTextModel, "vision encoder": CLIPVisionModelWithProjection}
    return load_module(kinds[part], folder, subfolder=Path(PARTS[part]).parent.name, **where)


def load_memory(root: Path, part: str, device: DeviceInfo) -> float:
    """Host memory that a load takes at most, as a share of the file, in a process of its own."""
    command = [sys.executable, __file__, "load-one", "--root", str(root), "--part", part, "--device", device.name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(answer)["bytes"]) / (root / PARTS[part]).stat().st_size


def load_one(root: Path, part: str, device: DeviceInfo) -> int:
    """Bytes over what the process held once all is imported and the device is awake."""
    import diffusers
    import transformers

    assert diffusers.AutoencoderKL
    assert transformers.CLIPTextModel
    torch.zeros(1, device=device.torch)
    before = psutil.Process().memory_info().rss
    with PeakMemory() as memory:
        network = load_part(root, part, device)
        for value in network.parameters():  # a mapped file is in memory only once it is read
            value.sum()
    return memory.bytes - before


def measure_steps(root: Path, device: DeviceInfo, tile: int, steps: int) -> Steps:
    """The loop of the pipeline against plain UNet calls of the same two sizes, without reference attention."""
    from diffusers import EulerAncestralDiscreteScheduler

    folder = root / ZERO123PLUS
    unet = load_part(root, "UNet", device)
    settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    scheduler = EulerAncestralDiscreteScheduler.from_config({**settings, "timestep_spacing": "trailing"})
    width, side = unet.config.cross_attention_dim, tile // 4
    condition = Condition(
        torch.randn(2, 77, width, device=device.torch), torch.randn(2, 4, side // 2, side // 2, device=device.torch)
    )
    sample = torch.randn(2, 4, side, side, device=device.torch, dtype=device.float16)
    reference, embeddings = condition.latents.to(device.float16), condition.embeddings.to(device.float16)
    moment = torch.tensor(500.0, device=device.torch)

    def bare() -> None:
        for _ in range(steps):
            unet(reference, moment, encoder_hidden_states=embeddings, return_dict=False)
            unet(sample, moment, encoder_hidden_states=embeddings, return_dict=False)

    def loop(count: int) -> None:
        options: dict[str, Any] = {"size": (side, side), "steps": count, "guidance": 4.0, "noise": Noise.seeded(0)}
        denoise(referring, scheduler, condition, **options)

    with torch.inference_mode():
        unet(sample, moment, encoder_hidden_states=embeddings)
        seconds_bare = _seconds(bare, device)
        referring = ReferenceUnet(unet)
        loop(1)
        return Steps(_seconds(lambda: loop(steps), device), seconds_bare)


def measure_views(root: Path, device: DeviceInfo, tile: int, steps: int) -> tuple[float, int]:
    """Seconds of the stage's model work, loading and all, and its peak of video memory in bytes (0 on the CPU)."""
    folder = root / ZERO123PLUS
    weights = pipeline.prepare_unet(folder, root / FLEXGEN)
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    devices.release(device)
    devices.reset_peak_memory(device)

    def draw() -> None:
        options: dict[str, Any] = {"side": 2 * tile, "steps": steps, "guidance": 4.0, "noise": Noise.seeded(0)}
        networks = Networks(folder, weights, device=device.torch, dtype=device.float16)
        pipeline.draw_views(networks, picture, **options)

    return _seconds(draw, device), devices.peak_memory(device) or 0


def measure_caption(root: Path, device: DeviceInfo, tokens: int) -> tuple[float, int]:
    """Seconds of a caption, loading and all, and its peak of video memory in bytes (0 on the CPU)."""
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    devices.release(device)
    devices.reset_peak_memory(device)

    def say() -> None:
        where: dict[str, Any] = {"device": device.torch, "dtype": device.half}
        captioner.Captioner(root / FLORENCE, **where)(picture, beams=3, max_tokens=tokens)

    return _seconds(say, device), devices.peak_memory(device) or 0


def _seconds(work: Any, device: DeviceInfo) -> float:
    if device.is_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.is_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "load-one", "views", "caption"))
    parser.add_argument("--root", type=Path, required=True, help="what make_checkpoints.py wrote")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=PARTS, default="UNet")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=1024)
    options = parser.parse_args()
    with bench_device(options.device) as device:
        report(options, device)


def report(options: argparse.Namespace, device: DeviceInfo) -> None:
    if options.what == "load-one":
        print(json.dumps({"bytes": load_one(options.root, options.part, device)}))
        return
    pipeline.prepare_unet(options.root / ZERO123PLUS, options.root / FLEXGEN)
    print(f"{device.model}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    if options.what == "load":
        print("| network | file, MB | host memory of the load, of the file |\n|---|---|---|")
        for part, file in PARTS.items():
            share = load_memory(options.root, part, device)
            print(f"| {part} | {(options.root / file).stat().st_size / 1e6:.0f} | {share:.2f} |")
    elif options.what == "views":
        steps = measure_steps(options.root, device, options.tile, options.steps)
        seconds, peak = measure_views(options.root, device, options.tile, options.steps)
        print("| grid | steps | loop, s | bare UNet calls, s | ratio | stage, s | peak video memory, GiB |")
        print("|---|---|---|---|---|---|---|")
        row = f"| {2 * options.tile} x {2 * options.tile} | {options.steps} | {steps.loop:.2f} | {steps.bare:.2f}"
        print(f"{row} | {steps.ratio:.2f} | {seconds:.1f} | {peak / GIB:.2f} |")
    else:
        seconds, peak = measure_caption(options.root, device, options.tokens)
        print("| tokens | beams | s | peak video memory, GiB |\n|---|---|---|---|")
        print(f"| {options.tokens} | 3 | {seconds:.1f} | {peak / GIB:.2f} |")


if __name__ == "__main__":
    main()
