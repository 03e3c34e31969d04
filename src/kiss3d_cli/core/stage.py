"""What a stage is: data that the pipeline plans with, and a function that does the work.

Nothing here imports torch, so that a plan, a status or a help text needs none of it.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.config import value_of
from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.progress import Progress
from kiss3d_cli.core.schema import Config


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to do a stage.

    Attributes:
        run: `module:function` within `kiss3d_cli`, imported when it is needed.
        version: raised whenever the same inputs give another result.
        reads: what it reads, as `stage/file` or the name of a run's input (`picture`, `bundle`, `ground_truth`).
        reads_if_there: the same, for what may be absent.
        settings: dotted keys of every setting that the result depends on; the function sees no others.
        models: registry names of the models it loads, given the configuration.
        packages: optional packages that it imports; `core.packages` knows which extra installs them.
        writes: the files that it always writes; it may write more.
    """

    run: str
    version: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    settings: tuple[str, ...] = ()
    reads_if_there: tuple[str, ...] = ()
    models: Callable[[Config], tuple[str, ...]] = lambda _config: ()
    packages: tuple[str, ...] = ()

    def load(self) -> Callable[[Context], None]:
        module, _, function = self.run.partition(":")
        loaded: Callable[[Context], None] = getattr(importlib.import_module(f"kiss3d_cli.{module}"), function)
        return loaded


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: as in the configuration and on the command line.
        number: its place, from 1; part of its folder's name.
        doing: what it does, for the progress bar.
        methods: the ways to do it, by the name in its section's `method`.
        off: why a configuration has no need of it; None if it has.
    """

    name: str
    number: int
    doing: str
    methods: Mapping[str, Method]
    off: Callable[[Config], str | None] = lambda _config: None

    @property
    def folder(self) -> str:
        return f"{self.number:02d}-{self.name}"


class Settings:
    """The settings that a method declared, by dotted key; any other is a programming error at once."""

    def __init__(self, config: Config, keys: tuple[str, ...]) -> None:
        self._values = {key: value_of(config, key) for key in keys}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self._values.items()}


@dataclasses.dataclass
class Context:
    """What a method's function is given.

    Attributes:
        inputs: path of everything declared in `reads`, and of what is there of `reads_if_there`.
        output: the folder to write to; it becomes the stage's folder when the function returns.
        settings: the declared settings.
        models: path of the folder or file of every declared model, by registry name.
        device: where to work.
        progress: tells how far the stage is; also the place where a cancelled run stops.
        scratch: a folder that outlives a failed or killed attempt, for work that can be taken up again.
        warnings: sentences for the user; the function appends to it.
        facts: what the function measured, for the manifest; JSON-able.
    """

    inputs: Mapping[str, Path]
    output: Path
    settings: Settings
    models: Mapping[str, Path]
    device: DeviceInfo
    progress: Progress
    scratch: Path
    warnings: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
