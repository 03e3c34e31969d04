"""The stages, in the order in which they run, and which methods each has.

Another package adds a stage through an entry point of the group `kiss3d.stages` that leads to a `Stage`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from kiss3d_cli.methods.base import Method
from kiss3d_cli.methods.registry import methods

GROUP = "kiss3d.stages"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: as in the configuration, on the command line and of its folder.
        doing: what it does, for the progress bar.
        default: the method that does it unless the configuration says otherwise; by default the one that says so.
        help: what is said of all of its methods, before the words that each has of itself.
        optional: it can be switched off, by the method `none`.
        unread: why it is off where no later stage reads what it makes; None if it runs all the same.
        after: the stage that it follows, for a stage of another package; None for the last.
        methods: the ways to do it, by the name in its section's `method`.
    """

    name: str
    doing: str
    default: str = ""
    help: str = ""
    optional: bool = False
    unread: str | None = None
    after: str | None = None
    methods: Mapping[str, Method[Any]] = dataclasses.field(default_factory=dict)


STAGES = (
    Stage(
        "preprocess",
        "cutting the object out",
        help="Background removal; an existing alpha channel takes precedence.",
        optional=True,
    ),
    Stage("caption", "describing the picture", optional=True),
    Stage("sides", "matching the pictures of several sides", optional=True),
    Stage("multiview", "making four views", optional=True),
    Stage("reference", "putting the reference bundle together", optional=True),
    Stage("prompt", "reading the prompt", unread="the bundle needs no prompt"),
    Stage("bundle", "making the bundle"),
    Stage("reconstruct", "reconstructing the mesh"),
    Stage("refine", "refining the mesh"),
    Stage("check", "checking the mesh", optional=True),
    Stage("place", "bringing the mesh back to its place", optional=True),
    Stage("eval", "measuring the mesh"),
    Stage("export", "writing the mesh for another program", optional=True),
)


@cache
def stages() -> tuple[Stage, ...]:
    """All stages with their methods."""
    found = list(STAGES)
    for entry in entry_points(group=GROUP):
        stage: Stage = entry.load()
        names = [other.name for other in found]
        found.insert(len(found) if stage.after is None else names.index(stage.after) + 1, stage)
    return tuple(_with_methods(stage) for stage in found)


def _with_methods(stage: Stage) -> Stage:
    """The stage with its methods, and what they say of themselves."""
    ways = methods().get(stage.name, {})
    default = stage.default or next((name for name, method in ways.items() if method.default), "")
    told = ", ".join(f"`{name}` {method.help}" for name, method in ways.items() if method.help)
    sentences = [stage.help or ("" if told else "The way in which it is done."), f"{told}." if told else ""]
    return dataclasses.replace(stage, default=default, help=" ".join(filter(None, sentences)), methods=ways)


def stage_named(name: str) -> Stage:
    """The stage of this name, which there is."""
    return next(stage for stage in stages() if stage.name == name)
