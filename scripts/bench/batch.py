"""What many pictures cost together, against one run after another.

python scripts/bench/batch.py model                                    # per picture on an RTX 3060, from the counts
python scripts/bench/batch.py measure PICTURE... [--preset draft] [--set KEY=VALUE]    # processor time and peak memory
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.estimate import GIB, RTX_3060, START_SECONDS, estimate, seconds_of, whole_costs

MIB = 2**20


def model(pictures: int) -> None:
    """Start-up and reading from disk are paid once; the arithmetic, the copies and the host's work for each picture."""
    print("| preset | one run, s | per picture together, s | ratio | of it arithmetic and copies |")
    print("|---|---:|---:|---:|---:|")
    for preset in ("fast", "12gb", "quality"):
        config = configuration.load(
            configuration.preset_layer(preset), configuration.settings_layer(["device.memory_limit=12"])
        )
        work = whole_costs(config, 12.0 * GIB)
        alone = estimate(config, RTX_3060).seconds
        once = START_SECONDS + sum(entry.loaded / RTX_3060.disk for entry in work.values())
        each = sum(seconds_of(entry, RTX_3060) - entry.loaded / RTX_3060.disk for entry in work.values())
        device = each - sum(entry.host_seconds for entry in work.values())
        together = each + once / pictures
        print(f"| {preset} | {alone:.0f} | {together:.0f} | {together / alone:.2f} | {device / alone:.2f} |")


def measure(pictures: list[Path], preset: str, settings: list[str]) -> None:
    """Processor time of the child processes, in which other programs do not count, and peaks of resident memory."""
    options = [part for setting in settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        alone = [_run([picture], preset, options, Path(folder) / f"alone-{n}") for n, picture in enumerate(pictures)]
        together = _run(pictures, preset, options, Path(folder) / "together")
    seconds = sum(entry["seconds"] for entry in alone)
    print(f"{len(pictures)} pictures, preset {preset}: {seconds:.1f} s of processor alone, {together['seconds']:.1f} s")
    print(f"ratio {together['seconds'] / seconds:.2f}")
    for stage, peak in together["peaks"].items():
        one = max(entry["peaks"][stage] for entry in alone)
        print(f"  {stage:<12} peak {peak / MIB:7.0f} MiB together, {one / MIB:7.0f} MiB alone ({peak / one - 1:+.0%})")


def _run(pictures: list[Path], preset: str, options: list[str], out: Path) -> dict:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "kiss3d_cli", "run", *map(str, pictures), "--preset", preset, "--out", str(out)]
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *options], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peaks: dict[str, int] = {}
    for path in out.glob("*/*/manifest.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        peaks[record["stage"]] = max(peaks.get(record["stage"], 0), record["peak_rss_bytes"])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "wall": time.perf_counter() - started, "peaks": peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["model", "measure"])
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=20, help="pictures of the model")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.what == "model":
        model(options.count)
    else:
        measure(options.pictures, options.preset, options.settings)


if __name__ == "__main__":
    main()
