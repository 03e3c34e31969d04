"""Items of a data set as its users have it: pictures from several sides and a ground truth, found by name.

ROOT/images/ITEM_VIEW.png       (or jpg, jpeg, webp; VIEW is a number)
ROOT/models/ITEM/meshes/model.obj
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import open_given
from kiss3d_cli.core.records import YAML_LIMIT, BadRecord, parse_yaml
from kiss3d_cli.pipeline.inputs import given
from kiss3d_cli.pipeline.jobs import Job

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_PICTURE = re.compile(r"(?P<item>.+)_(?P<view>\d+)")


@dataclass(frozen=True)
class Item:
    """One object.

    Attributes:
        name: as in the file names.
        pictures: by the number of the view, in ascending order.
        ground_truth: its mesh.
    """

    name: str
    pictures: Mapping[int, Path]
    ground_truth: Path


def find_item(root: Path, name: str) -> Item:
    """Find an object's pictures and ground truth.

    Raises:
        BadInput: no such data set or item, or one without pictures or ground truth.
    """
    if not (root / "images").is_dir() or not (root / "models").is_dir():
        hint = "it needs images/ITEM_VIEW.png and models/ITEM/meshes/model.obj"
        raise BadInput("this is not a data set", place=str(root), hint=hint)
    pictures = _pictures(root / "images", (root / "images").stat().st_mtime_ns)
    if name not in pictures:
        close = difflib.get_close_matches(name, pictures, n=1)
        suggestion = f" (did you mean '{close[0]}'?)" if close else ""
        hint = f"name one of the {len(pictures)} items in {root / 'images'}"
        raise BadInput(f"there is no picture of an item '{name}'{suggestion}", place="--item", hint=hint)
    ground_truth = root / "models" / name / "meshes" / "model.obj"
    if not ground_truth.is_file():
        raise BadInput(
            f"the item '{name}' has no ground truth",
            place=str(ground_truth),
            hint="put its mesh there",
        )
    return Item(name, dict(sorted(pictures[name].items())), ground_truth)


@lru_cache(maxsize=8)
def _pictures(folder: Path, _mtime_ns: int) -> Mapping[str, Mapping[int, Path]]:
    """All pictures by item and view; a plan asks for thousands of items of one folder."""
    pictures: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir(), key=_preference):
        match = _PICTURE.fullmatch(path.stem)
        if match is not None and path.suffix.lower() in PICTURE_SUFFIXES:
            pictures.setdefault(match["item"], {}).setdefault(int(match["view"]), path)
    return pictures


def is_number(view: str) -> bool:
    """Whether a text is the number of a view."""
    return view.isdecimal() and len(view) <= 9


def find_jobs(root: Path, name: str, view: str | None, notes: str = "") -> list[Job]:
    """The runs of one item: one view, the first by default, or `all`.

    Raises:
        BadInput: as `find_item` does; no such view.
    """
    item = find_item(root, name)

    def job(number: int) -> Job:
        inputs = given(picture=item.pictures[number], ground_truth=item.ground_truth)
        return Job(f"{name}_{number}", name, inputs, number, notes)

    if view == "all":
        return [job(number) for number in item.pictures]
    if view is None:
        return [job(next(iter(item.pictures)))]
    if not is_number(view) or int(view) not in item.pictures:
        known = ", ".join(str(number) for number in item.pictures)
        raise BadInput(f"the item '{name}' has no view '{view}'", place="--view", hint=f"use one of: {known}, or all")
    return [job(int(view))]


@dataclass(frozen=True)
class PlanEntry:
    """One object of a plan: `view` is a number as text, `all`, or None for the first."""

    name: str
    view: str | None
    notes: str


def read_plan(path: Path) -> list[PlanEntry]:
    """Read a plan: `objects:`, a list of `name`, `view` (a number or `all`) and `notes`.

    Raises:
        BadInput: no such file, or it is not of that form; every fault is named.
    """
    hint = "write it as:\nobjects:\n  - {name: ITEM, view: 0, notes: anything}"
    try:
        with open_given(path) as stream:
            loaded = parse_yaml(stream.read(YAML_LIMIT + 1))
    except FileNotFoundError:
        raise BadInput("there is no such plan", place=str(path), hint=hint) from None
    except BadRecord as error:
        raise BadInput(f"this is not a YAML file: {error}", place=str(path), hint=hint) from None
    objects = loaded.get("objects") if isinstance(loaded, dict) else None
    if not isinstance(objects, list) or not objects:
        raise BadInput("it has no list called 'objects'", place=str(path), hint=hint)
    faults = [f"object {number}: {fault}" for number, entry in enumerate(objects, 1) if (fault := _fault(entry))]
    if faults:
        raise BadInput("the plan is wrong\n" + "\n".join(f"  - {text}" for text in faults), place=str(path), hint=hint)
    return [
        PlanEntry(
            str(entry["name"]), None if entry.get("view") is None else str(entry["view"]), str(entry.get("notes") or "")
        )
        for entry in objects
    ]


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return "it is not a mapping"
    unknown = sorted(str(key) for key in entry if key not in ("name", "view", "notes"))
    if unknown:
        return f"unknown key {', '.join(unknown)}"
    name, view = entry.get("name"), entry.get("view")
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name):
        return "it has no name"
    if not (view is None or view == "all" or (not isinstance(view, bool) and is_number(str(view)))):
        return f"its view '{view}' is neither a number nor all"
    return None


def _preference(path: Path) -> tuple[int, str]:
    """PNG before JPEG before WebP where a view is there twice."""
    suffix = path.suffix.lower()
    return (PICTURE_SUFFIXES.index(suffix) if suffix in PICTURE_SUFFIXES else len(PICTURE_SUFFIXES), path.name)
