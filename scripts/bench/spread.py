"""Many runs spread over worker processes: how near to linear it grows, and what random kills cost.

    python scripts/bench/spread.py scale [--workers 1 2 4 8 16] [--each 12] [--seconds 4]
    python scripts/bench/spread.py kill [--runs 10000] [--workers 16] [--kills 100] [--seconds 0.06] [--seed 0]
    python scripts/bench/spread.py paper [--pictures 1000000] [--cards 100] [--seconds 90] [--megabytes 40]

The workers are processes of `kiss3d run FOLDER --shard I/N`; `--ray` are actors that call the same function. Their
stages wait and write, as `scripts/toy_stages.py` has them, so that 16 of them fit on two cores.

`scale` prints the rate of finished runs over that of as many ideal workers, which lose no time at all, over as many
times the rate of the first row, and the overhead of a run. The time it takes to start Python is left out: a worker
pays it once.

`kill` sends SIGKILL to random workers and starts each again with its command. It fails unless every run has ended
well, every stage of it was finished, and no more stages were repeated than were cut short.

`paper` multiplies: what a large set costs on many cards, and how far the shared storage is from its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import toy_stages  # noqa: E402

SYNCS = 65
"""fsync calls of a draft run, counted."""
LOOKED_AT = 0.017
"""Processor seconds in which a worker that starts tells that a run is done (`dataset_overhead.py`, repeated)."""
SERVER_SYNCS = 5000
"""That one file server with flash does in a second: an assumption."""


def draw(folder: Path, count: int) -> None:
    """So many pictures of which no two are alike."""
    folder.mkdir()
    for number in range(count):
        color = (number % 256, number // 256 % 256, number // 65536, 255)
        Image.new("RGBA", (64, 64), color).save(folder / f"p{number:06d}.png")


class Set:
    """A folder of pictures, workers on it, and what their stages noted."""

    def __init__(self, place: Path, runs: int, workers: int, seconds: float) -> None:
        self.pictures, self.out, self.log = place / "pictures", place / "out", place / "toys.log"
        draw(self.pictures, runs)
        self.workers = workers
        self._environment = {
            **toy_stages.plugged_in(place / "site"),
            toy_stages.LOG: str(self.log),
            "OMP_NUM_THREADS": "1",
        }
        self._options = [*toy_stages.chosen(seconds, 1), "--until", toy_stages.LAST, "--json"]
        self.processes = [self.start(number) for number in range(workers)]

    def start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "kiss3d_cli", "run", str(self.pictures), "--out", str(self.out)]
        command += [*self._options, "--shard", f"{number + 1}/{self.workers}"]
        with (self.out.parent / f"worker{number}.log").open("ab") as said, self.table(number).open("wb") as told:
            return subprocess.Popen(command, env=self._environment, stdout=told, stderr=said)

    def table(self, number: int) -> Path:
        return self.out.parent / f"worker{number}.json"

    def wait(self) -> None:
        for number, process in enumerate(self.processes):
            if process.wait() != 0:
                said = (self.out.parent / f"worker{number}.log").read_text(encoding="utf-8")
                raise SystemExit(f"worker {number} ended with {process.returncode}: {said[-2000:]}")

    def notes(self) -> list[tuple[float, str, str, str]]:
        """Time, begin or end, stage, run."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            moment, _process, what, stage, run = line.split()
            found.append((float(moment), what, stage, run))
        return found


def scale(workers: list[int], each: int, seconds: float) -> None:
    print("| workers | runs | seconds of a run | span, s | of ideal | of linear | overhead of a run, ms |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    first = None
    for count in workers:
        with tempfile.TemporaryDirectory() as place:
            work = Set(Path(place), count * each, count, seconds)
            work.wait()
            moments = [note[0] for note in work.notes()]
            span = max(moments) - min(moments)
            share = each * seconds / span
            first = first or share
            overhead = 1000 * (span / each - seconds)
            row = (count, count * each, seconds, f"{span:.1f}", f"{share:.3f}", f"{share / first:.3f}")
            print("|", " | ".join(map(str, row)), "|", f"{overhead:.0f} |", flush=True)


def kill(runs: int, workers: int, kills: int, seconds: float, seed: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        work = Set(Path(place), runs, workers, seconds)
        killed = 0
        while killed < kills and any(process.poll() is None for process in work.processes):
            time.sleep(rng.uniform(0.2, 1.8) * max(1.0, runs * seconds / workers / kills))
            number = rng.randrange(workers)
            if work.processes[number].poll() is None and work.log.exists():
                os.kill(work.processes[number].pid, signal.SIGKILL)
                work.processes[number].wait()
                work.processes[number] = work.start(number)
                killed += 1
        work.wait()
        took = time.monotonic() - began
        tables = [json.loads(work.table(number).read_text(encoding="utf-8")) for number in range(workers)]
        states = [Counter(run["status"] for run in table["runs"]) for table in tables]
        ends = Counter((run, stage) for _moment, what, stage, run in work.notes() if what == "end")
        begins = sum(what == "begin" for _moment, what, _stage, _run in work.notes())
        folders = {path.parent.name for path in work.out.glob("*/run.json")}
    wanted = runs * len(toy_stages.STAGES)
    repeated = begins - wanted
    print(f"{runs} runs, {workers} workers, {killed} kills, {took:.0f} s: {len(folders)} run folders")
    print(
        f"{len(ends)} of {wanted} stages finished, {repeated} begun again, {1000 * took * workers / runs:.0f} ms a run"
    )
    faults = []
    if len(folders) != runs:
        faults.append(f"{len(folders)} run folders instead of {runs}")
    if len(ends) != wanted:
        faults.append(f"{wanted - len(ends)} stages were not finished")
    if any(set(state) - {"done", "skipped"} or sum(state.values()) != runs for state in states):
        faults.append(f"not every worker tells that every run is done: {states}")
    if not 0 <= repeated <= killed:
        faults.append(f"{repeated} stages begun again after {killed} kills")
    if faults:
        raise SystemExit("; ".join(faults))


def paper(pictures: int, cards: int, seconds: float, megabytes: float) -> None:
    hours = pictures * seconds / cards / 3600
    rate = cards / seconds
    print(f"{pictures:,} pictures of {seconds:.0f} s on {cards} cards: {hours:,.0f} hours, ", end="")
    print(f"{hours * cards:,.0f} card hours")
    print(
        f"{pictures * megabytes / 1e6:,.1f} TB of results; {rate * megabytes:,.0f} MB/s, {rate:.1f} runs/s to storage"
    )
    print(f"{rate * SYNCS:,.0f} syncs a second; at {SERVER_SYNCS:,} the storage is full with ", end="")
    print(f"{SERVER_SYNCS / SYNCS * seconds:,.0f} cards")
    print(
        f"a worker that starts on a finished set looks at every run: {pictures * LOOKED_AT / 3600:.1f} hours in one ",
        end="",
    )
    print(f"folder, {10_000 * LOOKED_AT / 60:.1f} minutes in one of 10,000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    scaling = commands.add_parser("scale")
    scaling.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    scaling.add_argument("--each", type=int, default=12, help="runs of a worker")
    scaling.add_argument("--seconds", type=float, default=4.0, help="of a run")
    killing = commands.add_parser("kill")
    killing.add_argument("--runs", type=int, default=10_000)
    killing.add_argument("--workers", type=int, default=16)
    killing.add_argument("--kills", type=int, default=100)
    killing.add_argument("--seconds", type=float, default=0.06)
    killing.add_argument("--seed", type=int, default=0)
    counting = commands.add_parser("paper")
    counting.add_argument("--pictures", type=int, default=1_000_000)
    counting.add_argument("--cards", type=int, default=100)
    counting.add_argument("--seconds", type=float, default=65.0, help="of a picture: `scripts/bench/batch.py model`")
    counting.add_argument("--megabytes", type=float, default=40.0)
    given = vars(parser.parse_args())
    {"scale": scale, "kill": kill, "paper": paper}[given.pop("command")](**given)


if __name__ == "__main__":
    main()
