"""Posed views to learn from, drawn of objects or taken from a published set; shards that are there are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.training.data import PATIENCE, Recipe, chosen_entries, for_each_shard, key_of, note_recipe, noted_recipe
from kiss3d_cli.training.objects import Entry, read_object
from kiss3d_cli.training.posed import PosedViews, draw_posed
from kiss3d_cli.training.posed_shards import posed_path, write_posed
from kiss3d_cli.training.procedural import draw_object
from kiss3d_cli.training.published_views import Source, find_published, read_published

OBJECTS = 16
"""Of a shard."""
Found = tuple[str, Callable[[], PosedViews]]
"""The name of an object, and what draws or reads its views."""


def make_posed(
    folder: Path,
    recipe: Recipe,
    count: int | None,
    *,
    workers: int = 1,
    split: str = "train",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[str]:
    """Writes shards 0 to count - 1 unless they are there, and the recipe beside them.

    Each shard depends on the recipe and its number alone, so that any number of processes makes the same.

    Args:
        recipe: with `views` set.
        count: of shards; None for every object once.
        split: "train", or the name of a held-out family, or "held-out" for all of them.

    Returns:
        Sentences about objects that were left out.

    Raises:
        Missing, BadInput: no objects, or the folder has views of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make: Callable[[int], list[str]]
    if recipe.layout is None:
        chosen, notes = chosen_entries(folder, recipe, split)
        share = 1 - recipe.procedural if chosen else 0.0
        whole = max(1, round(len(chosen) / (OBJECTS * max(share, 1 / OBJECTS))))
        make = partial(draw_shard, folder, recipe, chosen)
    else:
        assert recipe.objects is not None
        known = noted_recipe(folder, recipe, split)
        sources, notes = find_published(recipe.objects, recipe.layout, split), []
        if known is None:
            note_recipe(folder, recipe, split, [source.name for source in sources])
        else:  # objects that were added since would move all others to other shards
            sources = [source for source in sources if source.name in set(known["names"])]
        whole = -(-len(sources) // OBJECTS)
        count = whole if count is None else min(count, whole)
        make = partial(read_shard, folder, recipe, sources)
    count = whole if count is None else count
    waiting = [number for number in range(count) if not posed_path(folder, number).exists()]
    return notes + for_each_shard(make, waiting, count, workers, progress)


def draw_shard(folder: Path, recipe: Recipe, entries: list[Entry], number: int) -> list[str]:
    """Draws the objects of one shard and writes it; sentences about objects that could not be drawn.

    Raises:
        BadInput: too many objects in a row can't be drawn.
    """
    assert recipe.views is not None
    views = recipe.views
    rng = np.random.default_rng([recipe.seed, number])
    made_up = OBJECTS if not entries else round(OBJECTS * recipe.procedural)
    order = np.random.default_rng(recipe.seed).permutation(len(entries))
    at = number * max(1, OBJECTS - made_up)

    def objects() -> Iterator[Found]:
        nonlocal at
        for place in range(OBJECTS + PATIENCE):
            if entries and place % OBJECTS < OBJECTS - made_up:
                entry = entries[order[at % len(entries)]]
                at += 1
                yield key_of(entry), partial(_drawn_entry, entry, rng, views, recipe.size)
            else:
                yield f"procedural {number}-{place}", lambda: draw_posed(draw_object(rng), rng, views, recipe.size)

    return _written(posed_path(folder, number), objects(), OBJECTS)


def _drawn_entry(entry: Entry, rng: np.random.Generator, views: int, size: int) -> PosedViews:
    return draw_posed(read_object(entry), rng, views, size)


def read_shard(folder: Path, recipe: Recipe, sources: list[Source], number: int) -> list[str]:
    """Reads the objects of one shard of a published set and writes it; sentences about those that can't be read.

    Raises:
        BadInput: none of them can.
    """
    assert recipe.views is not None
    mine = sources[number * OBJECTS : (number + 1) * OBJECTS]
    objects = (
        (source.name, partial(read_published, source, recipe.views, recipe.size, recipe.seed)) for source in mine
    )
    return _written(posed_path(folder, number), objects, len(mine))


def _written(path: Path, objects: Iterator[Found], most: int) -> list[str]:
    """Writes the first of some objects of which the views can be had."""
    torch.set_num_threads(1)
    names: list[str] = []
    found: list[PosedViews] = []
    notes: list[str] = []
    failed: BadInput | None = None
    with torch.inference_mode():
        for name, views in objects:
            try:
                found.append(views())
                names.append(name)
            except BadInput as error:
                failed = error
                notes.append(f"left out: {name}: {error}")
            if len(found) == most:
                break
    if not found:
        raise failed or BadInput("there are no objects", place=str(path))
    write_posed(path, found, names)
    return notes
