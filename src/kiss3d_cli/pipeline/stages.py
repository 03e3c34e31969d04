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
        default: the method that does it unless the configuration says otherwise.
        help: the sentence about its `method`.
        optional: it can be switched off, by the method `none`.
        unread: why it is off where no later stage reads what it makes; None if it runs all the same.
        after: the stage that it follows, for a stage of another package; None for the last.
        methods: the ways to do it, by the name in its section's `method`.
    """

    name: str
    doing: str
    default: str
    help: str = "The way in which it is done."
    optional: bool = False
    unread: str | None = None
    after: str | None = None
    methods: Mapping[str, Method[Any]] = dataclasses.field(default_factory=dict)


STAGES = (
    Stage(
        "preprocess",
        "cutting the object out",
        "grabcut",
        "How the background is removed; an alpha channel that is there wins over either. `mesh` takes `--mesh`.",
        optional=True,
    ),
    Stage(
        "caption",
        "describing the picture",
        "florence2",
        "`florence2` reads the picture with Florence-2-large, `describe` measures it, `text` takes `--text`.",
        optional=True,
    ),
    Stage(
        "sides",
        "matching the pictures of several sides",
        "register",
        "`register` brings the pictures of `--right`, `--back` and `--left` to the scale and place of the front's.",
        optional=True,
    ),
    Stage(
        "multiview",
        "making four views",
        "zero123plus",
        "`zero123plus` draws the views, `inflate` renders the inflated silhouette, `prior` a shape that was learned.",
        optional=True,
    ),
    Stage(
        "reference",
        "putting the reference bundle together",
        "lrm",
        "`lrm` reconstructs a mesh with the large reconstruction model, `surface` has the inflated, `mesh` `--mesh`.",
        optional=True,
    ),
    Stage(
        "prompt",
        "reading the prompt",
        "flux",
        "`flux` reads caption and picture, `text` the caption alone.",
        unread="the bundle needs no prompt",
    ),
    Stage(
        "bundle",
        "making the bundle",
        "flux",
        "`flux` redraws the reference bundle, `reference` takes it, `redux`, `text` have none, `file` is `--bundle`.",
    ),
    Stage(
        "reconstruct",
        "reconstructing the mesh",
        "lrm",
        "`lrm` is the large reconstruction model, `hull` the visual hull, `surface` the reference's, `mesh` `--mesh`.",
    ),
    Stage("refine", "refining the mesh", "isomer", "`isomer` moves the surface to agree with the normals."),
    Stage("check", "checking the mesh", "front", "`front` compares the front with the picture.", optional=True),
    Stage("place", "bringing the mesh back to its place", "frame", "`frame` is that of `--mesh`.", optional=True),
    Stage("eval", "measuring the mesh", "surface", "`surface` measures points on the two surfaces."),
)


@cache
def stages() -> tuple[Stage, ...]:
    """All stages with their methods."""
    found = list(STAGES)
    for entry in entry_points(group=GROUP):
        stage: Stage = entry.load()
        names = [other.name for other in found]
        found.insert(len(found) if stage.after is None else names.index(stage.after) + 1, stage)
    return tuple(dataclasses.replace(stage, methods=methods().get(stage.name, {})) for stage in found)


def stage_named(name: str) -> Stage:
    """The stage of this name, which there is."""
    return next(stage for stage in stages() if stage.name == name)
