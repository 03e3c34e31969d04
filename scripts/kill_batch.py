"""Kill a batch of many pictures with SIGKILL, type the same command again, and compare every hash.

    python scripts/kill_batch.py                                # stages of little cost, a kill at every write
    python scripts/kill_batch.py --every 20                     # at every 20th
    python scripts/kill_batch.py --until eval --kills 20        # whole runs, killed 20 times over one after another
    python scripts/kill_batch.py --poison                       # one of the pictures is broken

With `--kills` one batch is killed again and again at random writes, each time taken up where the last kill left it;
without, a new batch is killed at each write. Every batch ends by the command it began with, and must then hold one run
a picture, with the bits of a batch that nobody disturbed. Exit code 1 if it does not.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from inject_errors import SMALL
from killing import die_at_write
from many_pictures import draw_pictures


def run_batch(pictures: list[Path], out: Path, settings: list[str], boundary: int = 0) -> tuple[int, int]:
    """`kiss3d run` of all pictures in a fork, killed just before a write; 0 for none. Its return code and its writes.

    A fork of a process that has imported everything takes a tenth of a new process's time.
    """
    counted = out.with_name(f"{out.name}.writes")
    counted.unlink(missing_ok=True)
    if (child := os.fork()) == 0:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        seen, code = [0], 1
        try:
            from kiss3d_cli.cli.app import app

            die_at_write(str(out), boundary, seen)
            code = app(["run", *map(str, pictures), "--out", str(out), *settings], standalone_mode=False) or 0
            counted.write_text(str(seen[0]), encoding="ascii")
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(counted.read_text(encoding="ascii")) if counted.exists() else 0


def hashes(out: Path) -> dict[str, dict[str, str]]:
    """Every artifact of every run, by the run's name. A name that has two runs is a fault of its own."""
    from kiss3d_cli.core.manifest import MANIFEST, read_manifest
    from kiss3d_cli.pipeline.run_folder import find_runs

    found: dict[str, dict[str, str]] = {}
    for run in find_runs(out):
        name = run.record().name
        manifests = [read_manifest(path.parent) for path in sorted(run.path.glob(f"*/{MANIFEST}"))]
        artifacts = {f"{m.stage}/{a.path}": a.sha256 for m in manifests for a in m.artifacts}
        found[name if name not in found else f"{name} once more"] = artifacts
    return found


def left_behind(out: Path) -> list[str]:
    """Half a stage in a run. Half a run that was still being made is removed by later runs, a day on."""
    return [str(path.relative_to(out)) for path in out.glob("[!.]*/.*") if path.is_dir()]


def check(out: Path, expected: dict[str, dict[str, str]], what: str, faults: list[str]) -> None:
    found = hashes(out)
    odd = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    faults += [f"{what}: {name} is {'another' if name in found else 'missing'}" for name in odd]
    faults += [f"{what}: {name} was left behind" for name in left_behind(out)]


def kill_at_each(options: argparse.Namespace, pictures: list[Path], settings: list[str], place: Path) -> list[str]:
    whole = place / "whole"
    code, count = run_batch(pictures, whole, settings)
    assert code == 0, "the undisturbed batch failed"
    expected = hashes(whole)
    assert len(expected) == len(pictures)
    numbers = range(options.first, count + 1, options.every)
    print(f"{len(pictures)} pictures, {count} writes undisturbed, of which {len(numbers)} are cut short", flush=True)
    faults: list[str] = []
    began = time.monotonic()
    for done, number in enumerate(numbers, 1):
        out = place / f"kill-{number}"
        code, _ = run_batch(pictures, out, settings, number)
        if code != -signal.SIGKILL:
            faults.append(f"write {number} was not reached: {code}")
        code, _ = run_batch(pictures, out, settings)
        if code != 0:
            faults.append(f"write {number}: the batch could not be taken up: {code}")
        check(out, expected, f"write {number}", faults)
        shutil.rmtree(out)
        if done % 20 == 0:
            print(f"{done} kills, {time.monotonic() - began:.0f} s, {len(faults)} faults", flush=True)
    print(f"{len(numbers)} kills")
    return faults


def kill_over_and_over(
    options: argparse.Namespace, pictures: list[Path], settings: list[str], place: Path
) -> list[str]:
    whole, out = place / "whole", place / "killed"
    code, count = run_batch(pictures, whole, settings)
    assert code == 0, "the undisturbed batch failed"
    expected = hashes(whole)
    print(f"{len(pictures)} pictures, {count} writes undisturbed", flush=True)
    draw = random.Random(options.seed)
    kills, writes = 0, []
    while kills < options.kills:
        writes.append(draw.randint(1, max(2, 2 * count // options.kills)))
        code, _ = run_batch(pictures, out, settings, writes[-1])
        if code == 0:
            break
        kills += 1
    code, left = run_batch(pictures, out, settings)
    print(f"killed {kills} times, at writes {writes} of each attempt; {left} writes were left", flush=True)
    faults = [] if code == 0 else [f"the batch could not be taken up: {code}"]
    check(out, expected, "after all", faults)
    return faults


def poison(pictures: list[Path], settings: list[str], place: Path) -> list[str]:
    broken = pictures[len(pictures) // 2]
    whole = broken.read_bytes()
    code, _ = run_batch(pictures, place / "whole", settings)
    assert code == 0, "the undisturbed batch failed"
    expected = hashes(place / "whole")
    broken.write_bytes(whole[: len(whole) // 2])
    code, _ = run_batch(pictures, place / "poisoned", settings)
    faults: list[str] = []
    found = hashes(place / "poisoned")
    check(place / "poisoned", {k: v for k, v in expected.items() if k in found}, "poisoned", faults)
    print(f"{len(found)} of {len(pictures)} results, exit code {code}")
    table = (place / "poisoned" / "runs.md").read_text(encoding="utf-8")
    print("\n".join(line for line in table.splitlines() if " failed " in line))
    broken.write_bytes(whole)
    code, _ = run_batch(pictures, place / "poisoned", settings)
    print(f"mended and run again: exit code {code}")
    check(place / "poisoned", expected, "mended", faults)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="pictures")
    parser.add_argument("--until", default="preprocess", metavar="STAGE", help="the last stage of every run")
    parser.add_argument("--first", type=int, default=1, help="from this write on")
    parser.add_argument("--every", type=int, default=1, help="kill at every so many-th write")
    parser.add_argument("--kills", type=int, default=0, help="kill one batch so often, at random writes")
    parser.add_argument("--seed", type=int, default=0, help="of these")
    parser.add_argument("--poison", action="store_true", help="break one picture instead")
    options = parser.parse_args()
    settings = ["--preset", "draft", "--until", options.until]
    settings += [part for setting in SMALL for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        pictures = draw_pictures(place / "pictures", options.count)
        # in this process, so that the forks have it all
        run_batch_here(pictures[:1], place / "first", settings)
        gc.freeze()
        if options.poison:
            faults = poison(pictures, settings, place)
        elif options.kills:
            faults = kill_over_and_over(options, pictures, settings, place)
        else:
            faults = kill_at_each(options, pictures, settings, place)
    print(f"faults: {len(faults)}")
    for line in faults[:50]:
        print(f"  {line}")
    return 1 if faults else 0


def run_batch_here(pictures: list[Path], out: Path, settings: list[str]) -> None:
    """Import what a batch imports."""
    import contextlib
    import io

    from kiss3d_cli.cli.app import app

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(["run", str(pictures[0].parent), "--out", str(out), *settings[:2], "--dry-run"], standalone_mode=False)
        app(["run", *map(str, pictures), "--out", str(out), *settings], standalone_mode=False)


if __name__ == "__main__":
    sys.exit(main())
