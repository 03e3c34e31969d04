"""The bundle stage on a GPU whose allocator is capped: memory, time per call, streamed and resident.

python scripts/make_checkpoints.py --size full --only flux --out ROOT        # 25 GB, and 15 GB more when prepared
python scripts/bench/flux_gpu.py --root ROOT --picture image.png [--limit 12]
python scripts/bench/flux_gpu.py --root TINY --picture image.png --device cpu --tile 128 --steps 2   # does it run?

Without a GPU its memory can still be counted, on a simulated one without numbers (`simulated_gpu`):
python scripts/make_checkpoints.py --size hollow --only flux --out ROOT       # takes no room, but 15 GB when prepared
python scripts/bench/flux_gpu.py --root ROOT --picture image.png --device hollow
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from kiss3d_cli.core.device import GIB, DeviceInfo
from kiss3d_cli.core.machine import Measured, measure
from kiss3d_cli.pipeline.estimate import whole_costs
from kiss3d_cli.pipeline.launch import Request, prepare, resume, start

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated_gpu import NAME, bench_device

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


def begin(picture: Path, root: Path, out: Path, tile: int = 320, steps: int = 14, more: Sequence[str] = ()) -> Path:
    """A draft run on the CPU, of which Flux is to draw the bundle as in the 12gb preset.

    Args:
        more: settings, `key=value`.

    Returns:
        The run's folder.
    """
    settings = (
        "bundle.method=flux",
        "bundle.scheduler=heun",
        f"bundle.steps={steps}",
        f"bundle.tile={tile}",
        "device.name=cpu",
        f"models.root={root}",
        *more,
    )
    request = Request({"picture": picture}, preset="draft", settings=settings, out=out, until="reference")
    return start(prepare(request)).folder.path


def run(folder: Path, device: DeviceInfo, limit: float | None) -> Reading:
    """The stages of Flux.

    Args:
        folder: of `begin`.
        limit: GiB of video memory, for kiss3d's plan and for torch's allocator; None takes nearly all there is.
    """
    if limit is None:
        limit = 0.95 * (device.memory_bytes or psutil.virtual_memory().total) / GIB
    if device.is_cuda and device.memory_bytes is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / device.memory_bytes), device.torch)
    settings = [f"device.name={device.name}", f"device.memory_limit={limit}"]
    finished = resume(folder, settings, force_from="prompt", until="bundle")
    paths = folder.glob("*/manifest.json")
    records = {record["stage"]: record for record in (json.loads(path.read_text(encoding="utf-8")) for path in paths)}
    return Reading(limit, records, whole_costs(finished.record.config, limit * GIB)["bundle"].flops)


def rows(reading: Reading, rates: Measured | None) -> list[str]:
    """The lines of the table of one run; without rates the times mean nothing and are left out."""
    lines = []
    for stage in ("prompt", "bundle"):
        record = reading.stages[stage]
        facts, video = record["facts"], record["peak_vram_bytes"]
        seconds = [record["seconds"], facts.get("seconds_to_first_step"), None, None]
        if stage == "bundle" and rates is not None:
            seconds[2] = facts["seconds_of_steps"] / facts["transformer_calls"]
            seconds[3] = facts["seconds_of_steps"] * rates.matrix / reading.counted
        shown = ["" if value is None or rates is None else f"{value:.3g}" for value in seconds]
        streamed = facts.get("streamed_bytes", facts.get("t5_streamed_bytes"))
        sizes = ["" if size is None else f"{size / GIB:.2f}" for size in (video, record["peak_rss_bytes"], streamed)]
        cells = [f"{reading.limit:.1f}", stage, shown[0], *sizes, *shown[1:]]
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
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="other settings of the stage")
    options = parser.parse_args()
    with bench_device(options.device) as device:
        rates = None if device.model == NAME else measure(device, seconds=1.0 if device.is_gpu else 0.1)
        if rates is not None:
            speeds = f"{rates.matrix / 1e12:.1f} TFLOP/s measured, host to device {rates.host / 1e9:.1f} GB/s"
            print(f"{device.model}: {speeds}\n")
        report(options, device, rates)


def report(options: argparse.Namespace, device: DeviceInfo, rates: Measured | None) -> None:
    """Print the table: a run that prepares the weights, one with them prepared, one with all that the device has."""
    print(f"| {HEAD} | x counted |\n|{'---|' * (HEAD.count('|') + 2)}")
    with tempfile.TemporaryDirectory() as out:
        sizes = (options.tile, options.steps, options.set)
        folder = begin(options.picture, options.root, Path(out), *sizes)
        for limit in (options.limit, options.limit, None):
            print("\n".join(rows(run(folder, device, limit), rates)), flush=True)


if __name__ == "__main__":
    main()
