"""What the report of a run costs, as `kiss3d run` pays for it: with everything loaded that the run has loaded.

python scripts/bench/report.py RUN_DIR [--times 3]
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

LOADED = ("torch", "trimesh", "scipy.spatial", "kiss3d_cli.pipeline.launch", "kiss3d_cli.methods.refine.isomer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    for name in LOADED:
        importlib.import_module(name)
    print("| report | processor | wall | size |\n|---|---:|---:|---:|")
    for number in range(1, arguments.times + 1):
        processor, wall = time.process_time(), time.perf_counter()
        from kiss3d_cli.pipeline.run_folder import RunFolder
        from kiss3d_cli.report.run_report import write_report

        path = write_report(RunFolder(arguments.run))
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        print(f"| {number} | {processor:.2f} s | {wall:.2f} s | {path.stat().st_size / 1e6:.2f} MB |")


if __name__ == "__main__":
    main()
