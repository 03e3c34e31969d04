"""Where a draft run's time goes: processor and wall seconds of every stage, from the command to its exit.

    python scripts/bench/draft_stages.py PICTURE [--runs 3] [--against SRC]

Each run is a process of its own. `--against` names the `src` folder of another checkout, whose runs take turns with
those of this one, so that both find the machine equally busy. Prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[2] / "src"
RUN = """
import json, sys, time
begun = time.process_time(), time.perf_counter()
marks = []
def mark(name):
    marks.append((name, time.process_time(), time.perf_counter()))
from kiss3d_cli.cli.app import main
from kiss3d_cli.pipeline.runner import RunAtWork
run = RunAtWork.run
def timed(self, step, call):
    mark("imports, configuration" if len(marks) == 0 else "between the stages")
    run(self, step, call)
    mark(step.stage.name)
RunAtWork.run = timed
sys.argv[0] = "kiss3d"
try:
    main()
finally:
    mark("report")
    found, before = {}, (0.0, begun[1])
    for name, processor, wall in marks:
        spent = found.setdefault(name, [0.0, 0.0])
        spent[0] += processor - before[0]
        spent[1] += wall - before[1]
        before = processor, wall
    print("\\n" + json.dumps(found), file=sys.stderr, flush=True)
"""
WHOLE = "**command to exit**"


def measure(picture: Path, source: Path, out: Path) -> dict[str, tuple[float, float]]:
    """(processor, wall) seconds by stage."""
    command = [sys.executable, "-c", RUN, "run", str(picture), "--preset", "draft", "--out", str(out), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {name: (spent[0], spent[1]) for name, spent in json.loads(done.stderr.splitlines()[-1]).items()}
    told = [sum(column) for column in zip(*found.values(), strict=True)]
    return {**found, "start and exit": (processor - told[0], wall - told[1]), WHOLE: (processor, wall)}


def median(runs: list[dict[str, tuple[float, float]]], name: str) -> str:
    spent = [run.get(name, (0.0, 0.0)) for run in runs]
    return " | ".join(f"{statistics.median(column):.2f}" for column in zip(*spent, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", type=Path, help="the src folder of another checkout")
    given = parser.parse_args()
    sources = [*([given.against] if given.against else []), HERE]
    runs: list[list[dict[str, tuple[float, float]]]] = [[] for _ in sources]
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(given.runs):
            for source, found in zip(sources, runs, strict=True):
                found.append(measure(given.picture, source, Path(scratch)))
    heads = ["before: processor, s", "wall, s", "processor, s", "wall, s"][-2 * len(sources) :]
    print("| stage | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for name in dict.fromkeys(name for found in reversed(runs) for run in found for name in run if name != WHOLE):
        print(f"| {name} | " + " | ".join(median(found, name) for found in runs) + " |")
    print(f"| {WHOLE} | " + " | ".join(median(found, WHOLE) for found in runs) + " |")


if __name__ == "__main__":
    main()
