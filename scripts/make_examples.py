"""Makes data/examples/: pictures, ground-truth meshes and bundles of our own objects. See data/README.md.

python scripts/make_examples.py [--only mushroom robot] [--out data/examples] [--jobs 2]
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from examples.files import make_example
from examples.objects import OBJECTS


def make(name: str, folder: Path) -> float:
    """Seconds it took. One thread, so that sums run in one order on every machine."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    make_example(name, OBJECTS[name](), folder, seed=list(OBJECTS).index(name))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(OBJECTS), default=list(OBJECTS), help="which objects")
    parser.add_argument("--out", type=Path, default=Path("data/examples"), help="the folder to write to")
    parser.add_argument("--jobs", type=int, default=2, help="objects made at the same time")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(make, name, options.out): name for name in options.only}
        for job in as_completed(jobs):
            print(f"{jobs[job]}: {job.result():.1f} s", flush=True)


if __name__ == "__main__":
    main()
