"""What kiss3d itself costs per item of a data set: three stages that write a line each, everything else as it is.

    python scripts/bench/dataset_overhead.py [--counts 10 100 1000]

Processor time per item (other programs do not count), of runs that are made, and of the same command repeated, which
finds them done. The time that the disk takes for fsync is no processor time; `wall` has it. The last line is the ratio
of the most to the fewest items.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from PIL import Image

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.pipeline import launch, many_runs
from kiss3d_cli.pipeline.dataset import find_jobs
from kiss3d_cli.pipeline.stages import Stage


class Picture(Weightless[Settings]):
    stage, name, version = "preprocess", "grabcut", 1
    reads = ("picture",)
    writes = ("a.txt",)

    def work(self, _settings: Settings, _machine: Machine, context: Context) -> None:
        (context.output / "a.txt").write_bytes(context.inputs["picture"].read_bytes()[:64])


class Words(Weightless[Settings]):
    stage, name, version = "caption", "describe", 1
    reads = ("preprocess/a.txt",)
    writes = ("b.txt",)

    def work(self, _settings: Settings, _machine: Machine, context: Context) -> None:
        (context.output / "b.txt").write_bytes(context.inputs["preprocess/a.txt"].read_bytes())


class Views(Weightless[Settings]):
    stage, name, version = "multiview", "inflate", 1
    reads = ("preprocess/a.txt", "caption/b.txt")
    writes = ("c.txt",)

    def work(self, _settings: Settings, _machine: Machine, context: Context) -> None:
        (context.output / "c.txt").write_bytes(context.inputs["caption/b.txt"].read_bytes())


STAGES = (
    Stage("preprocess", "", "grabcut", methods={"grabcut": Picture()}),
    Stage("caption", "", "describe", methods={"describe": Words()}),
    Stage("multiview", "", "inflate", methods={"inflate": Views()}),
)
METHODS = ("preprocess.method=grabcut", "caption.method=describe", "multiview.method=inflate")


def data_set(root: Path, count: int) -> Path:
    (root / "images").mkdir(parents=True)
    for number in range(count):
        color = (number % 256, number // 256 % 256, 128, 255)
        Image.new("RGBA", (64, 64), color).save(root / "images" / f"item{number}_0.png")
        truth = root / "models" / f"item{number}" / "meshes" / "model.obj"
        truth.parent.mkdir(parents=True)
        truth.write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 {1 + number}\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")
    return root


def measure(count: int) -> dict[str, float]:
    """Seconds per item."""
    found = {}
    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(launch, "stages", lambda: STAGES),
        patch.object(many_runs, "stages", lambda: STAGES),
    ):
        root, out = data_set(Path(place) / "set", count), Path(place) / "runs"
        request = launch.Request(inputs={}, preset="draft", settings=METHODS, out=out)
        for name in ("made", "repeated"):
            gc.collect()
            wall, processor = time.perf_counter(), time.process_time()
            jobs = [job for number in range(count) for job in find_jobs(root, f"item{number}", None)]
            found["jobs"] = (time.process_time() - processor) / count
            finished = many_runs.run_many(jobs, request, out)
            found[name] = (time.process_time() - processor) / count
            found[f"{name}, wall"] = (time.perf_counter() - wall) / count
            wanted = "done" if name == "made" else "skipped"
            wrong = [report for report in finished.reports if report.status != wanted]
            assert not wrong, wrong[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    counts = parser.parse_args().counts
    measure(3)  # whatever is loaded or compiled once
    results = {}
    print("| items | found, ms per item | made | made, wall | repeated | repeated, wall |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in counts:
        results[count] = found = measure(count)
        columns = ("jobs", "made", "made, wall", "repeated", "repeated, wall")
        print(f"| {count} | " + " | ".join(f"{1000 * found[name]:.1f}" for name in columns) + " |", flush=True)
    few, many = results[min(counts)], results[max(counts)]
    print(f"ratio: made {many['made'] / few['made']:.2f}, repeated {many['repeated'] / few['repeated']:.2f}")


if __name__ == "__main__":
    main()
