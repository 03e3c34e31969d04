"""Flip random bytes of run.json and of manifests: each flip must be told as damage, and none end in a traceback.

    python scripts/flip_records.py --flips 100000          # records made here, of every stage
    python scripts/flip_records.py --run outputs/fox-...   # those of a run; it is copied, not touched

Exit code 1 if a flip went unnoticed or raised anything but the error of a damaged record.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from kiss3d_cli.core.errors import DamagedRun
from kiss3d_cli.core.manifest import MANIFEST, Artifact, Manifest, UntrustedManifest, read_manifest
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.run_folder import RUN, RunFolder, RunRecord
from kiss3d_cli.pipeline.run_record import Input
from kiss3d_cli.pipeline.stages import stages


def make_run(folder: Path) -> None:
    """The records of a whole draft run, with values of every kind; no artifacts, which have hashes of their own."""
    config = configuration.load(configuration.preset_layer("draft"))
    picture = Input("input.png", 123_456, 64 * "a", "pictures/füchse/fox 1.png")
    record = RunRecord(
        "fox", "draft", "asked for", config, {"picture": picture}, "2025-01-01T12:00:00+00:00", "0.1.0",
        {"name": "cpu", "model": "CPU", "memory_bytes": None}, {"torch": "2.9.0"}, ("kiss3d run fox.png",),
    )  # fmt: skip
    folder.mkdir()
    RunFolder(folder).rewrite(record)
    for stage in stages():
        place = folder / stage.name
        place.mkdir()
        Manifest(
            stage.name, stage.default, 64 * "b", {"picture": 64 * "c"}, {"seed": 42, "refine.betas": [0.9, 0.8]},
            {"isnet": 64 * "d"}, 3, "2025-01-01T12:00:00+00:00", "2025-01-01T12:00:09+00:00", 9.125, 10**9, None,
            (Artifact("mesh.glb", 12345, 64 * "e"),), ("A warning.",), {"mesh": {"faces": 5000, "genus": 0, "x": 1e-3}},
        ).write(place)  # fmt: skip


def noticed(path: Path) -> bool:
    """Whether a record is told to be damaged. Whatever else is raised is a fault."""
    try:
        if path.name == RUN:
            RunFolder(path.parent).record()
        else:
            read_manifest(path.parent)
    except (DamagedRun, UntrustedManifest) as error:
        return "newer" not in str(error)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=None, help="take the records of this run folder")
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)
    unnoticed, faults = [], []
    started = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        if arguments.run is None:
            make_run(folder)
        else:
            shutil.copytree(arguments.run, folder)
        paths = [folder / RUN, *sorted(folder.glob(f"*/{MANIFEST}"))]
        whole = {path: path.read_bytes() for path in paths}
        assert not any(noticed(path) for path in paths), "the records are damaged before any flip"
        for _ in range(arguments.flips):
            path = numbers.choice(paths)
            data = bytearray(whole[path])
            at = numbers.randrange(len(data))
            data[at] ^= 1 << numbers.randrange(8) if numbers.random() < 0.5 else numbers.randrange(1, 256)
            path.write_bytes(data)
            what = f"{path.relative_to(folder)}, byte {at}: {whole[path][at]:#04x} to {data[at]:#04x}"
            try:
                if not noticed(path):
                    unnoticed.append(what)
            except Exception as error:  # the very thing that is looked for
                faults.append(f"{what}: {type(error).__name__}: {error}")
            path.write_bytes(whole[path])
    print(f"{arguments.flips} flips in {len(paths)} records of {sum(map(len, whole.values()))} bytes,", end=" ")
    print(f"{time.process_time() - started:.0f} s of processor time")
    print(f"unnoticed: {len(unnoticed)}\ntracebacks: {len(faults)}")
    for line in (*unnoticed, *faults)[:20]:
        print(f"  {line}")
    return 1 if unnoticed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
