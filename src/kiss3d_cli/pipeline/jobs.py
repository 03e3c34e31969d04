"""What many runs are made of: jobs from a data set, from pictures, from folders and from lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.inputs import Given

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Job:
    """One of many runs.

    Attributes:
        name: of the run.
        item: what it shows; a data set has several pictures of one item.
        inputs: what it is given, by the name of its kind.
        view, notes: of a data set: which picture, and what its plan says about it.
    """

    name: str
    item: str
    inputs: Mapping[str, Given]
    view: int | None = None
    notes: str = ""


@dataclass(frozen=True)
class RunReport:
    """What came of a job.

    Attributes:
        name: of the run.
        item, view, notes: which picture, and what the plan says about it.
        status: done, skipped (it was done before), same (as another one of them) or failed.
        run_dir: its folder; None if it could not be started.
        mesh: its result; None without one.
        seconds: wall time of this attempt.
        error: why it failed, else None.
        exit_code: of that error.
        hint: what helps against it, if anything does.
        metrics: the columns of a table, from metrics.json; None without it.
    """

    name: str
    item: str
    view: int | None
    notes: str
    status: str
    run_dir: str | None = None
    mesh: str | None = None
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0
    metrics: dict[str, float | None] | None = None
    hint: str | None = None


def is_many(pictures: Sequence[Path]) -> bool:
    """Whether this asks for many runs: several paths, a folder or a list."""
    return len(pictures) > 1 or any(path.is_dir() or path.suffix.lower() == LIST_SUFFIX for path in pictures)


def jobs_of(pictures: Sequence[Path]) -> list[Job]:
    """A job for every picture: each file, all of a folder, and what a list names, a path in every line.

    A file that is not there or can't be read is a job all the same: it fails, and the others do not.

    Raises:
        BadInput: a folder without pictures, or a list that can't be read or is empty.
    """
    paths = list(dict.fromkeys(path for given in pictures for path in _pictures_of(given)))
    count = Counter(path.stem for path in paths)
    names = [path.stem if count[path.stem] == 1 else f"{path.absolute().parent.name}-{path.stem}" for path in paths]
    return [Job(name, name, {"picture": path}) for name, path in zip(names, paths, strict=True)]


def _pictures_of(given: Path) -> list[Path]:
    if given.is_dir():
        found = sorted(path for path in given.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
        if not found:
            raise BadInput("there is no picture in this folder", place=str(given), hint="give one that has some")
        return found
    if given.suffix.lower() != LIST_SUFFIX:
        return [given]
    hint = "write a path in every line, seen from the list's folder"
    try:
        lines = [line.strip() for line in given.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise BadInput("there is no such list", place=str(given), hint=hint) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"the list can't be read: {error}", place=str(given), hint=hint) from None
    listed = [given.parent / line for line in lines if line and not line.startswith("#")]
    if not listed:
        raise BadInput("the list is empty", place=str(given), hint=hint)
    return [path for entry in listed for path in (_pictures_of(entry) if entry.is_dir() else [entry])]
