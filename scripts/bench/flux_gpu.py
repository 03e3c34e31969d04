"""The bundle stage on a GPU whose allocator is capped: memory, time per call, streamed and resident.

python scripts/make_checkpoints.py --size full --only flux --out ROOT        # 25 GB, and 15 GB more when prepared
python scripts/bench/flux_gpu.py --root ROOT --picture image.png [--limit 12]
python scripts/bench/flux_gpu.py --root TINY --picture image.png --device cpu --tile 128 --steps 2   # does it run?
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.core.machine import Measured, measure
from kiss3d_cli.pipeline.launch import Request, prepare, start
from kiss3d_cli.pipeline.work import stage_work

HEAD = "limit, GiB | stage | seconds | peak video, GiB | peak RAM, GiB | streamed, GiB | to first step, s | s per call"


@dataclasses.dataclass(frozen=True)
class Reading:
    """One run.

    Attributes:
        limit: GiB of video memory that it was allowed.
        stages: manifests of its stages, by name.
        counted: operations of its bundle stage.
    """

    limit: float
    stages: dict[str, dict[str, Any]]
    counted: float

    @property
    def seconds_of_steps(self) -> float:
        return float(self.stages["bundle"]["facts"]["seconds_of_steps"])


def run(
    picture: Path, root: Path, device: DeviceInfo, limit: float | None, out: Path, tile: int = 320, steps: int = 14
) -> Reading:
    """A draft run up to the bundle, which Flux draws as in the 12gb preset.

    Args:
        limit: GiB of video memory, for kiss3d's plan and for torch's allocator; None takes nearly all there is.
    """
    if limit is None:
        limit = 0.95 * (device.memory_bytes or psutil.virtual_memory().total) / GIB
    if device.is_cuda and device.memory_bytes is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / device.memory_bytes), device.torch)
    settings = (
        "bundle.method=flux",
        "bundle.scheduler=heun",
        f"bundle.steps={steps}",
        f"bundle.tile={tile}",
        f"device.name={device.name}",
        f"device.memory_limit={limit}",
        f"models.root={root}",
    )
    finished = start(prepare(Request(picture=picture, preset="draft", settings=settings, out=out, until="bundle")))
    paths = finished.folder.path.glob("[0-9][0-9]-*/manifest.json")
    records = {record["stage"]: record for record in (json.loads(path.read_text()) for path in paths)}
    return Reading(limit, records, stage_work(finished.record.config, limit * GIB)["bundle"].flops)


def rows(reading: Reading, rates: Measured) -> list[str]:
    """The lines of the table of one run."""
    lines = []
    for stage in ("prompt", "bundle"):
        record = reading.stages[stage]
        facts, video = record["facts"], record["peak_vram_bytes"]
        cells = [f"{reading.limit:.1f}", stage, f"{record['seconds']:.1f}"]
        cells += ["" if video is None else f"{video / GIB:.2f}", f"{record['peak_rss_bytes'] / GIB:.2f}"]
        cells += [f"{facts.get('streamed_bytes', facts.get('t5_streamed_bytes')) / GIB:.2f}"]
        if stage == "bundle":
            cells += [f"{facts['seconds_to_first_step']:.1f}"]
            cells += [f"{facts['seconds_of_steps'] / facts['transformer_calls']:.3f}"]
            cells += [f"{facts['seconds_of_steps'] * rates.matrix / reading.counted:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="weights, full-size for figures that mean anything")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--device", default="cuda", help="on `cpu` nothing is capped and nothing streamed")
    parser.add_argument("--limit", type=float, default=12, help="GiB that the allocator may give out")
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--steps", type=int, default=14)
    options = parser.parse_args()
    device = devices.resolve(options.device)
    rates = measure(device, seconds=1.0 if device.is_gpu else 0.1)
    print(f"{device.model}: {rates.matrix / 1e12:.1f} TFLOP/s measured, host to device {rates.host / 1e9:.1f} GB/s\n")
    print(f"| {HEAD} | x counted |\n|{'---|' * (HEAD.count('|') + 2)}")
    with tempfile.TemporaryDirectory() as out:
        # the first run prepares the weights; the second is measured; the third has all that the device has
        for limit, shown in ((options.limit, False), (options.limit, True), (None, True)):
            reading = run(options.picture, options.root, device, limit, Path(out), options.tile, options.steps)
            if shown:
                print("\n".join(rows(reading, rates)), flush=True)


if __name__ == "__main__":
    main()
