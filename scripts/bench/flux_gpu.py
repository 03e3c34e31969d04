"""The bundle stage at full size on a GPU whose allocator is capped: memory, time per call, streamed and resident.

python scripts/make_checkpoints.py --size full --only flux --out ROOT        # 25 GB, and 15 GB more when prepared
python scripts/bench/flux_gpu.py --root ROOT --picture image.png [--limit 12]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from kiss3d_cli.core import config as configuration
from kiss3d_cli.core import device as devices
from kiss3d_cli.core.machine import measure
from kiss3d_cli.pipeline.launch import Request, prepare, start
from kiss3d_cli.pipeline.work import stage_work

GIB = 2**30
ROUTE = (
    "bundle.method=flux",
    "bundle.tile=320",
    "bundle.steps=14",
    "bundle.scheduler=heun",
    "preprocess.method=grabcut",
)


def run(picture: Path, root: Path, limit: float, out: Path) -> dict[str, dict[str, Any]]:
    """A draft run up to the bundle, which Flux draws; the manifests of its stages by name."""
    settings = (*ROUTE, f"models.root={root}", f"device.memory_limit={limit}")
    finished = start(prepare(Request(picture=picture, preset="draft", settings=settings, out=out, until="bundle")))
    paths = sorted(finished.folder.path.glob("[0-9][0-9]-*/manifest.json"))
    return {record["stage"]: record for record in (json.loads(path.read_text()) for path in paths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="full-size weights")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=12, help="GiB that the allocator may give out")
    options = parser.parse_args()
    device = devices.resolve("auto")
    if not device.is_gpu or device.memory_bytes is None:
        raise SystemExit("this bench needs a CUDA device")
    rates = measure(device, seconds=1.0)
    print(f"{device.model}: {rates.matrix / 1e12:.1f} TFLOP/s measured, host to device {rates.host / 1e9:.1f} GB/s\n")
    print(
        "| limit, GiB | stage | seconds | peak video, GiB | peak RAM, GiB | to first step, s | s per call | x counted |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        # the first run prepares the weights; the second is measured; the third has everything on the device
        for limit, shown in ((options.limit, False), (options.limit, True), (device.memory_bytes / GIB * 0.95, True)):
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / device.memory_bytes))
            found = run(options.picture, options.root, limit, Path(out))
            if not shown:
                continue
            config = configuration.load(configuration.preset_layer("12gb"))
            counted = stage_work(dataclasses.replace(config), limit * GIB)["bundle"].flops / rates.matrix
            for stage in ("prompt", "bundle"):
                record = found[stage]
                facts = record["facts"]
                calls = facts.get("transformer_calls")
                cells = [f"{limit:.0f}", stage, f"{record['seconds']:.1f}"]
                cells += [f"{record['peak_vram_bytes'] / GIB:.2f}", f"{record['peak_rss_bytes'] / GIB:.2f}"]
                cells += [f"{facts['seconds_to_first_step']:.1f}" if calls else ""]
                cells += [f"{facts['seconds_of_steps'] / calls:.3f}" if calls else ""]
                cells += [f"{facts['seconds_of_steps'] / counted:.2f}" if calls else ""]
                print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
