"""What many pictures cost together, against one run after another.

python scripts/bench/batch.py model                                    # per picture on an RTX 3060, from the counts
python scripts/bench/batch.py measure [PICTURE...] [--count 20] [--preset draft] [--set KEY=VALUE]
python scripts/bench/batch.py measure --clock --count 4 --singles 1 --preset 12gb --set models.root=ROOT   # on a GPU

`measure` runs every picture alone and all of them together, and compares the processor time, the peak memory of the
process as the kernel counts it, the samples of it in the manifests of each stage, and how often each network was
loaded. Without pictures it takes variants of the examples. With `--clock` it compares the time by the clock, all cores
at work, and that of each stage: for a GPU that nothing else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.estimate import GIB, RTX_3060, START_SECONDS, estimate, seconds_of, whole_costs
from many_pictures import draw_pictures

MIB = 2**20
LOADS = Path(__file__).with_name("loads.py")


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


def measure(
    pictures: list[Path], count: int, singles: int, preset: str, settings: list[str], until: str | None, clock: bool
) -> None:
    """Processor time of the child processes, in which other programs do not count, and peaks of resident memory.

    Args:
        clock: compare the time by the clock too.
    """
    options = [part for setting in settings for part in ("--set", setting)]
    options += [] if until is None else ["--until", until]
    with tempfile.TemporaryDirectory() as folder:
        pictures = pictures or draw_pictures(Path(folder) / "pictures", count)
        chosen = pictures[:: -(-len(pictures) // singles)]
        alone = [
            _run([picture], preset, options, Path(folder) / f"alone-{n}", clock) for n, picture in enumerate(chosen)
        ]
        if clock:  # at once: a limit of time may end what follows
            said = ", ".join(f"{entry['wall']:.1f}" for entry in alone)
            print(f"alone, by the clock: {said} s", flush=True)
        together = _run(pictures, preset, options, Path(folder) / "together", clock)
    one, each = sum(entry["seconds"] for entry in alone) / len(alone), together["seconds"] / len(pictures)
    print(f"{len(pictures)} pictures together, {len(alone)} of them alone, preset {preset}")
    print(f"processor time a picture: {one:.2f} s alone, {each:.2f} s together, ratio {each / one:.2f}")
    if clock:
        wall, share = sum(entry["wall"] for entry in alone) / len(alone), together["wall"] / len(pictures)
        print(f"by the clock a picture: {wall:.2f} s alone, {share:.2f} s together, ratio {share / wall:.2f}")
        for stage, spent in together["spent"].items():
            lone = sum(entry["spent"].get(stage, 0.0) for entry in alone) / len(alone)
            print(f"  {stage:<12} {lone:7.2f} s alone, {spent / len(pictures):7.2f} s a picture together")
    whole, most = together["most"], max(entry["most"] for entry in alone)
    print(f"peak of the process: {whole / MIB:.0f} MiB together, {most / MIB:.0f} MiB alone ({whole / most - 1:+.1%})")
    for name in together["loads"]:
        most = max(entry["loads"].get(name, 0) for entry in alone)
        print(f"  {name:<24} loaded {together['loads'][name]} x together, {most} x alone")
    for stage, peak in together["peaks"].items():
        one = max(entry["peaks"][stage] for entry in alone)
        print(f"  {stage:<12} peak {peak / MIB:7.0f} MiB together, {one / MIB:7.0f} MiB alone ({peak / one - 1:+.0%})")


def _run(pictures: list[Path], preset: str, options: list[str], out: Path, clock: bool) -> dict:
    counts = out.with_suffix(".loads.json")
    command = [sys.executable, str(LOADS), str(counts), "run", *map(str, pictures), "--preset", preset]
    started = time.perf_counter()
    # the caption of a picture that was seen before loads no network
    environment = {**os.environ, "KISS3D_CACHE": str(out.with_suffix(".cache"))}
    if not clock:
        environment["OMP_NUM_THREADS"] = "1"
    command += ["--out", str(out), *options]
    said = out.with_suffix(".log")
    with said.open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    _pid, status, used = os.wait4(child.pid, 0)  # of this process alone
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = said.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"this failed: {shlex.join(command)}\n{tail}")
    taken = time.perf_counter() - started
    peaks: dict[str, int] = {}
    spent: dict[str, float] = {}
    for path in out.glob("*/*/manifest.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        peaks[record["stage"]] = max(peaks.get(record["stage"], 0), record["peak_rss_bytes"])
        spent[record["stage"]] = spent.get(record["stage"], 0.0) + record["seconds"]
    seconds = used.ru_utime + used.ru_stime
    loads = json.loads(counts.read_text(encoding="utf-8"))
    most = used.ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "wall": taken, "spent": spent, "most": most, "peaks": peaks, "loads": loads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["model", "measure"])
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=20, help="pictures, where none are named")
    parser.add_argument("--singles", type=int, default=20, help="run at most so many of them alone")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--until", help="the last stage of the runs")
    parser.add_argument("--clock", action="store_true", help="compare the time by the clock too, with all cores")
    options = parser.parse_args()
    if options.what == "model":
        model(options.count)
    else:
        chosen = (options.preset, options.settings, options.until, options.clock)
        measure(options.pictures, options.count, options.singles, *chosen)


if __name__ == "__main__":
    main()
