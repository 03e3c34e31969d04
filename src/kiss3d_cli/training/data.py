"""Views to learn from, written to shards by several processes; what is already there is kept."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.records import BadRecord, Fields, read_json
from kiss3d_cli.training.objects import Entry, find_objects, read_object, without_twins
from kiss3d_cli.training.procedural import draw_object
from kiss3d_cli.training.shards import shard_path, write_shard
from kiss3d_cli.training.views import Sample, draw_pose, draw_view

NOTED = "recipe.json"
VIEWS = 64
"""Of a shard."""
VIEWS_OF_ONE = (2, 4)
"""Views of an object that was read, and of one that was made up: those take longer to make than to draw."""
PATIENCE = 40
"""Objects in a row that can't be drawn before the set is given up."""


@dataclass(frozen=True)
class Recipe:
    """What decides the views of every shard.

    Attributes:
        objects: a folder of objects, or None for made-up ones alone.
        procedural: share of views of procedural objects, in [0, 1].
        seed: of everything drawn.
        views: posed views of each object; None for pictures seen once, with what is true of the shapes in them.
        size: pixels a side of posed views.
        layout: of a published set of rendered views; None for meshes.
    """

    objects: Path | None
    procedural: float = 0.5
    seed: int = 0
    views: int | None = None
    size: int = 64
    layout: str | None = None

    def as_dict(self, split: str) -> dict[str, Any]:
        """As it is kept beside the shards."""
        found = {"objects": str(self.objects), "procedural": self.procedural, "seed": self.seed, "split": split}
        if self.views is not None:
            found |= {"views": self.views, "size": self.size}
        return found if self.layout is None else found | {"layout": self.layout}


def make_shards(
    folder: Path,
    recipe: Recipe,
    count: int,
    *,
    workers: int = 1,
    split: str = "train",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[str]:
    """Writes shards 0 to count - 1 unless they are there, and the recipe beside them.

    Each shard depends on the recipe and its number alone, so that any number of processes makes the same.

    Args:
        split: "train", or the name of a held-out family, or "held-out" for all of them.

    Returns:
        Sentences about objects that were left out.

    Raises:
        Missing, BadInput: no objects, or the folder has views of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen, notes = chosen_entries(folder, recipe, split)
    waiting = [number for number in range(count) if not shard_path(folder, number).exists()]
    return notes + for_each_shard(partial(make_shard, folder, recipe, chosen), waiting, count, workers, progress)


def for_each_shard(
    make: Callable[[int], list[str]],
    waiting: list[int],
    count: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Calls `make`, which can be pickled, for the numbers of the shards that are not there yet; returns its sentences.

    Args:
        count: shards with those that are there.
    """
    notes: list[str] = []
    progress(count - len(waiting), count)
    if workers <= 1:
        for done, number in enumerate(waiting, count - len(waiting) + 1):
            notes += make(number)
            progress(done, count)
        return notes
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(make, number) for number in waiting]
        for done, job in enumerate(as_completed(jobs), count - len(waiting) + 1):
            notes += job.result()
            progress(done, count)
    return notes


def _noted(path: Path) -> dict[str, Any]:
    try:
        record = Fields(read_json(path))
        return {"recipe": record.object("recipe"), "names": record.texts("names")}
    except BadRecord as error:
        hint = "remove it: the list of objects is made again"
        raise BadInput(f"it can't be used: {error}", place=str(path), hint=hint) from None


def chosen_entries(folder: Path, recipe: Recipe, split: str) -> tuple[list[Entry], list[str]]:
    """The objects that may be drawn. Looking for copies takes a minute, so the list is kept beside the shards."""
    known = noted_recipe(folder, recipe, split)
    if recipe.objects is None or recipe.procedural >= 1:
        chosen: list[Entry] = []
        notes: list[str] = []
    else:
        found = find_objects(recipe.objects)
        if split == "train":
            candidates = [entry for entry in found.entries if entry.trainable]
            if known is not None:
                names = set(known["names"])
                chosen, notes = [entry for entry in candidates if key_of(entry) in names], []
            else:
                held_out = [entry for entry in found.entries if entry.family is not None]
                chosen, dropped = without_twins(candidates, held_out)
                notes = found.notes + dropped
        else:
            chosen = [e for e in found.entries if e.family == split or (split == "held-out" and e.family is not None)]
            notes = found.notes
        if not chosen:
            raise Missing("no object may be trained on", place=str(recipe.objects), hint="give other --objects")
    if known is None:
        note_recipe(folder, recipe, split, [key_of(entry) for entry in chosen])
    return chosen, notes


def noted_recipe(folder: Path, recipe: Recipe, split: str) -> dict[str, Any] | None:
    """The recipe beside the shards and the names of its objects; None in a new folder.

    Raises:
        BadInput: it is another one.
    """
    noted = folder / NOTED
    known = _noted(noted) if noted.exists() else None
    if known is not None and known["recipe"] != recipe.as_dict(split):
        raise BadInput(
            "the folder holds views of another recipe",
            place=str(noted),
            hint="give another folder, or remove this one to make them again",
        )
    return known


def note_recipe(folder: Path, recipe: Recipe, split: str, names: list[str]) -> None:
    noted = folder / NOTED
    text = json.dumps({"recipe": recipe.as_dict(split), "names": names}, indent=1)
    partly = noted.with_suffix(f".{os.getpid()}.partial")
    partly.write_text(text, encoding="utf-8")
    partly.replace(noted)


def key_of(entry: Entry) -> str:
    return f"{entry.path.name}:{entry.member or entry.name}"


def make_shard(folder: Path, recipe: Recipe, entries: list[Entry], number: int) -> list[str]:
    """Draws the views of one shard and writes it; sentences about objects that could not be drawn.

    Raises:
        BadInput: too many objects in a row can't be drawn.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng([recipe.seed, number])
    made_up = VIEWS if not entries else round(VIEWS * recipe.procedural)
    order = np.random.default_rng(recipe.seed).permutation(len(entries))
    per_shard = max(1, (VIEWS - made_up + VIEWS_OF_ONE[0] - 1) // VIEWS_OF_ONE[0])
    at = number * per_shard
    samples: list[Sample] = []
    notes: list[str] = []
    failed = 0
    with torch.inference_mode():
        while len(samples) < VIEWS:
            place = "made up"
            try:
                read = len(samples) < VIEWS - made_up
                if read:
                    entry = entries[order[at % len(entries)]]
                    at += 1
                    place = key_of(entry)
                    mesh = read_object(entry)
                    wanted = min(VIEWS_OF_ONE[0], VIEWS - made_up - len(samples))
                else:
                    mesh = draw_object(rng)
                    wanted = min(VIEWS_OF_ONE[1], VIEWS - len(samples))
                samples += [draw_view(mesh, draw_pose(rng), rng) for _ in range(wanted)]
                failed = 0
            except BadInput as error:
                failed += 1
                notes.append(f"{place}: {error.cause}")
                if failed >= PATIENCE:
                    raise BadInput(
                        f"{failed} objects in a row can't be drawn; the last: {error}",
                        place=str(recipe.objects),
                        hint="look at the objects: are they damaged, or of another up axis?",
                    ) from error
    write_shard(shard_path(folder, number), samples)
    return notes
