"""What a network's package declares of what is published of it, and of how its files are found and looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kiss3d_cli.models.store.preflight import Findings


@dataclasses.dataclass(frozen=True)
class Model:
    """One published model.

    Attributes:
        name: how kiss3d calls it.
        repository: owner and name on the Hugging Face hub, or on GitHub if `url` is set.
        files: the files or patterns (as in `fnmatch`) that are needed of it.
        gigabytes: size of the download, in 10^9 bytes; None if it is not known before the hub is asked.
        licence: the licence of the weights, not of any code.
        commercial: whether the licence allows commercial use.
        gated: whether its terms must be accepted on the hub first.
        purpose: what kiss3d uses it for.
        url: where the files are if not on the hub; the file's name is appended.
        sha256: content hash of files that are not on the hub, by name.
        without: the setting under which a run does without it, if there is one.
    """

    name: str
    repository: str
    files: tuple[str, ...]
    gigabytes: float | None
    licence: str
    commercial: bool
    gated: bool
    purpose: str
    url: str | None = None
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    without: str | None = None

    @property
    def size(self) -> str:
        if self.gigabytes is None:
            return "size unknown"
        return f"{self.gigabytes:g} GB" if self.gigabytes >= 0.1 else f"{1000 * self.gigabytes:g} MB"

    @property
    def page(self) -> str:
        host = "https://huggingface.co" if self.url is None else "https://github.com"
        return f"{host}/{self.repository}"


TRANSFORMERS_FILES = ("*.json", "*.txt", "*.model")
"""Configuration and vocabulary of a model of transformers."""

Check = Callable[[Mapping[str, Path], "Findings"], None]
"""Looks at the files of those models that are in the folders, and adds what is wrong."""
FindInComfyUI = Callable[[str, Path], "list[tuple[Path, tuple[Path, ...]]]"]
"""From a model's name and ComfyUI's folder of models to what to load it from and all of its files, or to nothing."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, or several that work together.

    Attributes:
        models: what it is loaded from.
        check: looks at their files before a run, without reading a tensor; they must fit each other. Without it, only
            that each is whole is looked at.
        comfyui: finds them where ComfyUI keeps its own.
        folder: where another tool keeps those that are not on the hub, so that one copy serves both.
        unlisted: what holds of any repository of the hub that a user names, but for its name; at most one network has
            this.
    """

    models: tuple[Model, ...] = ()
    check: Check | None = None
    comfyui: FindInComfyUI | None = None
    folder: Callable[[], Path] | None = None
    unlisted: Model | None = None
