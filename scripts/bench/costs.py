"""What the methods say that they cost, against what a run takes here: processor seconds and peak memory by stage.

python scripts/bench/costs.py PICTURE [--preset draft] [--gt MESH] [--set KEY=VALUE]    # OMP_NUM_THREADS=1 for one core
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from kiss3d_cli.core.machine import measure
from kiss3d_cli.core.progress import Silent
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.estimate import DISK, GIB, Rates, estimate_plan
from kiss3d_cli.pipeline.status import read_status


class Stopwatch(Silent):
    """Processor seconds of this process by stage: other work on the machine does not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = 0.0

    def stage_started(self, _stage: str, _method: str) -> None:
        self._started = time.process_time()

    def stage_ended(self, stage: str, status: str, _seconds: float) -> None:
        if status == "done":
            self.seconds[stage] = time.process_time() - self._started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--gt", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    inputs = {"picture": options.picture} | ({"ground_truth": options.gt} if options.gt else {})
    with tempfile.TemporaryDirectory() as folder:
        request = launch.Request(inputs, options.preset, settings=tuple(options.settings), out=Path(folder))
        prepared = launch.prepare(request)
        found = measure(prepared.device)
        rates = Rates(prepared.device.model, found.matrix, found.memory, found.host, DISK)
        told = estimate_plan(prepared.plan, prepared.record.config, prepared.device, lambda: rates)
        watch = Stopwatch()
        finished = launch.start(prepared, watch)
        rows = {row.stage: row for row in read_status(finished.folder).rows}
    print(f"{rates.matrix / 1e12:.2f} TFLOP/s, {rates.memory / 1e9:.1f} GB/s")
    print("| stage | method | seconds told | processor seconds | GiB told | peak GiB |")
    print("|---|---|---:|---:|---:|---:|")
    for stage in told.stages:
        row = rows[stage.stage]
        seconds = "unknown" if stage.seconds is None else f"{stage.seconds:.1f}"
        peak = (row.peak_rss_bytes or 0) / GIB
        print(
            f"| {stage.stage} | {row.method} | {seconds} | {watch.seconds[stage.stage]:.1f} "
            f"| {stage.memory_bytes / GIB:.2f} | {peak:.2f} |"
        )


if __name__ == "__main__":
    main()
