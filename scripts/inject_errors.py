"""Let the system fail at the n-th call of a run, for every n, and resume: the result must be the same to the bit.

    python scripts/inject_errors.py picture.png                 # a small draft run: every call, the errors in turn
    python scripts/inject_errors.py picture.png --errors all    # every call with every error: hours
    python scripts/inject_errors.py picture.png --every 20      # a sample of the calls

A call is an open, read, write, sync, rename, new folder or removal below the folder of runs, whoever makes it: kiss3d,
Pillow, trimesh. Exit code 1 if an error ended in a traceback, or a resumed run in another result.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import errno
import io
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ERRORS = tuple(sorted(set(errno.errorcode) - {errno.EINTR}))  # Python itself tries again after EINTR
CALLS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "remove", "rmdir", "scandir", "listdir", "ftruncate")
SMALL = (
    "preprocess.size=64", "multiview.tile=64", "bundle.tile=64", "refine.steps=3", "refine.target_faces=200",
    "refine.texture_size=64", "reconstruct.grid=16", "refine.tile=64",
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--errors", choices=("turn", "all"), default="turn")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th call")
    arguments = parser.parse_args()
    from kiss3d_cli.core.manifest import MANIFEST, read_manifest
    from kiss3d_cli.pipeline import launch
    from kiss3d_cli.pipeline.config import settings
    from kiss3d_cli.pipeline.run_folder import find_runs

    known = tuple(line for line in SMALL if line.partition("=")[0] in settings())

    def start(out: Path) -> None:
        request = launch.Request(
            inputs={"picture": arguments.picture}, preset="draft", settings=known, out=out, name="x"
        )
        launch.start(launch.prepare(request))

    def hashes(out: Path) -> dict[str, str]:
        (run,) = find_runs(out)
        found = [read_manifest(path.parent) for path in sorted(run.path.glob(f"*/{MANIFEST}"))]
        return {f"{m.stage}/{a.path}": a.sha256 for m in found for a in m.artifacts}

    faults, codes = [], []
    turn = itertools.cycle(ERRORS)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        count = Injector(whole)
        with count.at_work():
            start(whole)
        expected = hashes(whole)
        print(f"{count.seen} calls in an undisturbed run", flush=True)
        for number in range(1, count.seen + 1, arguments.every):
            for error in ERRORS if arguments.errors == "all" else (next(turn),):
                out = Path(place) / f"{number}-{error}"
                injector = Injector(out, number, error)
                try:
                    with injector.at_work():
                        codes.append(outcome(lambda out=out: start(out)))
                    runs = find_runs(out)
                    launch.resume(runs[0].path) if runs else start(out)
                    if hashes(out) != expected:
                        faults.append(f"call {number}, {errno.errorcode[error]}: another result")
                except Exception as fault:
                    faults.append(f"call {number}, {errno.errorcode[error]}: {type(fault).__name__}: {fault}")
    print(f"{len(codes)} errors: " + ", ".join(f"{codes.count(code)} ended in {code}" for code in sorted(set(codes))))
    print(f"faults: {len(faults)}")
    for line in faults[:50]:
        print(f"  {line}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
