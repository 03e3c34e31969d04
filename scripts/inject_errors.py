"""Let the system fail at the n-th call of a run, for every n, and resume: the result must be the same to the bit.

    python scripts/inject_errors.py picture.png                 # a small draft run: every call, the errors in turn
    python scripts/inject_errors.py picture.png --errors all    # every call with every error: hours
    python scripts/inject_errors.py picture.png --every 20      # a sample of the calls
    python scripts/inject_errors.py picture.png --resume        # the same while a finished run is resumed: reads only

A call is an open, read, write, sync, rename, new folder or removal below the folder of runs, whoever makes it: kiss3d,
Pillow, trimesh. Exit code 1 if an error ended in a traceback, or a resumed run in another result.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import errno
import gc
import io
import itertools
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ERRORS = tuple(sorted(set(errno.errorcode) - {errno.EINTR}))  # Python itself tries again after EINTR
CALLS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "remove", "rmdir", "scandir", "listdir", "ftruncate")
SMALL = (
    "preprocess.size=64", "multiview.tile=128", "reconstruct.resolution=32", "bundle.tile=128", "refine.size=64",
    "refine.integrate=false", "refine.target_faces=200", "refine.texture_size=256",
)  # fmt: skip


class Injector:
    """Counts the system's calls below a folder, and fails one of them.

    Args:
        root: the folder; calls elsewhere are let through.
        number: which call fails, from 1; 0 for none.
        error: with which errno.

    Attributes:
        seen: how many calls there were so far.
    """

    def __init__(self, root: Path, number: int = 0, error: int = errno.EIO) -> None:
        self.root, self.number, self.error = str(root), number, error
        self.seen = 0
        self._own: set[int] = set()

    def call(self) -> None:
        self.seen += 1
        if self.seen == self.number:
            raise OSError(self.error, os.strerror(self.error))

    def is_below(self, path: Any) -> bool:
        if isinstance(path, int):
            with contextlib.suppress(OSError):
                return str(Path(f"/proc/self/fd/{path}").readlink()).startswith(self.root)
            return False
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        real_os = {name: getattr(os, name) for name in CALLS}
        real_open, real_io = builtins.open, io.open

        def guarded(name: str) -> Callable[..., Any]:
            def function(path: Any = ".", *rest: Any, **options: Any) -> Any:
                if self.is_below(path):
                    self.call()
                return real_os[name](path, *rest, **options)

            return function

        def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
            if not self.is_below(file):
                return real_open(file, mode, buffering, *rest, **options)
            if not isinstance(file, int):
                self.call()
            return self._stream(file, mode, *rest, **options)

        for name in CALLS:
            setattr(os, name, guarded(name))
        builtins.open = io.open = opened  # type: ignore[assignment]
        try:
            yield
        finally:
            for name, function in real_os.items():
                setattr(os, name, function)
            builtins.open, io.open = real_open, real_io

    def _stream(self, file: Any, mode: str, *rest: Any, **options: Any) -> Any:
        injector = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> Any:
                injector.call()
                return super().write(data)

            def readinto(self, buffer: Any) -> Any:
                injector.call()
                return super().readinto(buffer)

            def readall(self) -> Any:
                injector.call()
                return super().readall()

        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd=options.pop("closefd", True))
        buffer: Any
        if "+" in mode:
            buffer = io.BufferedRandom(raw)
        elif mode[0] == "r":
            buffer = io.BufferedReader(raw)
        else:
            buffer = io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *rest, **options)


def outcome(work: Callable[[], object]) -> str:
    """`done`, or the exit code that a user would see. Raises whatever would be a traceback."""
    from kiss3d_cli.core.errors import from_exception

    try:
        work()
    except Exception as error:
        known = from_exception(error)
        if known is None or known.exit_code == 1:
            raise
        return str(known.exit_code)
    return "done"


def hashes(out: Path) -> dict[str, str]:
    """Every artifact of the one run in a folder."""
    from kiss3d_cli.core.manifest import MANIFEST, read_manifest
    from kiss3d_cli.pipeline.run_folder import find_runs

    (run,) = find_runs(out)
    found = [read_manifest(path.parent) for path in sorted(run.path.glob(f"*/{MANIFEST}"))]
    return {f"{m.stage}/{a.path}": a.sha256 for m in found for a in m.artifacts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--errors", choices=("turn", "all"), default="turn")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th call")
    parser.add_argument("--first", type=int, default=1, help="from this call on")
    parser.add_argument("--resume", action="store_true", help="fail the calls of a resumption instead")
    arguments = parser.parse_args()
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.run_folder import find_runs

    def start(out: Path) -> None:
        request = launch.Request(
            inputs={"picture": arguments.picture}, preset="draft", settings=SMALL, out=out, name="x"
        )
        launch.start(launch.prepare(request))

    def resume(out: Path) -> None:
        launch.resume(next(path for path in out.iterdir() if (path / "run.json").is_file()))

    faults: list[str] = []
    codes: list[str] = []
    turn = itertools.cycle(ERRORS)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        start(whole)
        gc.freeze()  # the libraries' objects need no visit at the end of every stage
        expected = hashes(whole)
        first = Path(place) / "first"
        if arguments.resume:
            shutil.copytree(whole, first)
        work = resume if arguments.resume else start
        count = Injector(first)
        with count.at_work():
            work(first)
        numbers = range(arguments.first, count.seen + 1, arguments.every)
        print(f"{count.seen} calls undisturbed, of which {len(numbers)} fail", flush=True)
        began = time.monotonic()
        for number in numbers:
            for error in ERRORS if arguments.errors == "all" else (next(turn),):
                out = Path(place) / f"{number}-{error}"
                if arguments.resume:
                    shutil.copytree(whole, out)
                injector = Injector(out, number, error)
                what = f"call {number}, {errno.errorcode[error]}"
                try:
                    with injector.at_work():
                        codes.append(outcome(lambda out=out: work(out)))
                    resume(out) if find_runs(out) else start(out)
                    if hashes(out) != expected:
                        faults.append(f"{what}: another result")
                except Exception as fault:
                    place_of = traceback.extract_tb(fault.__traceback__)[-4:]
                    where = " < ".join(f"{Path(line.filename).name}:{line.lineno}" for line in reversed(place_of))
                    faults.append(f"{what}: {type(fault).__name__}: {fault} ({where})")
                    print(faults[-1], flush=True)
                shutil.rmtree(out, ignore_errors=True)
            if number % 20 < arguments.every:
                print(f"call {number}: {time.monotonic() - began:.0f} s, {len(faults)} faults", flush=True)
    print(f"{len(codes)} errors: " + ", ".join(f"{codes.count(code)} ended in {code}" for code in sorted(set(codes))))
    print(f"faults: {len(faults)}")
    for line in faults[:50]:
        print(f"  {line}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
