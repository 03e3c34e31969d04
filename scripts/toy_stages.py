"""Stages that take time and write files but compute nothing, for measuring what surrounds the real ones.

`plugged_in` makes them known to processes of `kiss3d` through entry points, as any other package would.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless

STAGES = ("preprocess", "caption", "multiview")
LAST = STAGES[-1]
LOG = "KISS3D_TOY_LOG"
"""Names a file that is told when a stage begins and when it ends."""


class ToySettings(Settings):
    seconds: float = Field(0.1, ge=0, le=3600)
    """How long it takes; spent waiting, as for a GPU."""
    kilobytes: int = Field(64, ge=0, le=10**6)
    """The size of each of its files."""


class _Toy(Weightless[ToySettings]):
    """Takes its time, and writes files that depend on what it reads, under the names of the real ones."""

    name, version = "toy", 1
    settings = ToySettings

    def work(self, settings: ToySettings, _machine: Machine, context: Context) -> None:
        _note("begin", self.stage, context.output)
        time.sleep(settings.seconds)
        found = hashlib.sha256(b"".join(path.read_bytes() for path in context.inputs.values())).digest()
        for name in self.writes:
            (context.output / name).write_bytes(found * (1 + 1000 * settings.kilobytes // len(found)))
        _note("end", self.stage, context.output)


def _note(what: str, stage: str, output: Path) -> None:
    """One line in the file that `LOG` names; many processes may write to it."""
    if place := os.environ.get(LOG):
        line = f"{time.time():.3f} {os.getpid()} {what} {stage} {output.parent.name}\n".encode()
        handle = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


class Preprocess(_Toy):
    stage = "preprocess"
    reads = ("picture",)
    writes = ("image.png", "image_rgba.png", "mask.png")


class Caption(_Toy):
    stage = "caption"
    reads = ("preprocess/image.png",)
    writes = ("caption.json",)


class Multiview(_Toy):
    stage = "multiview"
    reads = ("preprocess/image_rgba.png", "caption/caption.json")
    writes = ("grid.png", "front.png", "right.png", "back.png", "left.png", "surface.ply")


def plugged_in(folder: Path) -> dict[str, str]:
    """The environment of a process that knows them.

    Args:
        folder: an empty one, for the entry points.
    """
    info = folder / "kiss3d_toys-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiss3d-toys\nVersion: 1\n")
    lines = [f"toy_{stage} = toy_stages:{stage.capitalize()}" for stage in STAGES]
    (info / "entry_points.txt").write_text("\n".join(["[kiss3d.methods]", *lines, ""]))
    known = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))}


def chosen(seconds: float, kilobytes: int) -> list[str]:
    """Options of the command line that use them: `seconds` in all, each file of so many kB."""
    settings = []
    for stage in STAGES:
        settings += [
            f"{stage}.method=toy",
            f"{stage}.seconds={seconds / len(STAGES)}",
            f"{stage}.kilobytes={kilobytes}",
        ]
    return ["--preset", "draft", *(word for setting in settings for word in ("--set", setting))]
