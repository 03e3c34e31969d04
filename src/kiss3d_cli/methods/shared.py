"""Settings that are no method's own: those of the run and its machine, and those that several methods share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from kiss3d_cli.methods.base import Settings

VIEW_FILES = ("front.png", "right.png", "back.png", "left.png")
"""The multiview stage's pictures, in the order of the bundle's columns."""

Share = Annotated[float, Field(ge=0, le=1)]


class Seeded(Settings):
    section: ClassVar[str] = ""

    seed: int = Field(42, ge=0, le=2**63 - 1)
    """Random seed of the run; 0 is a valid seed."""


class Device(Settings):
    """Where the work is done."""

    section: ClassVar[str] = "device"

    name: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` uses a GPU if there is one, else the CPU."""
    memory_limit: float | None = Field(None, ge=1)
    """VRAM limit in GiB; empty means all that is free."""


class Models(Settings):
    """Where model weights are looked up."""

    section: ClassVar[str] = "models"

    root: str | None = None
    """Folder of weights laid out as `<owner>/<repository>/<file>`; empty means the Hugging Face cache."""
    comfyui: str | None = None
    """ComfyUI folder that is searched for weights first; its files are never moved."""


class Cameras(Settings):
    """The bundle's cameras."""

    section: ClassVar[str] = "camera"

    radius: float = Field(4.15, ge=2.1, le=100)
    """Distance of the bundle's cameras to the origin, in world units."""


RUN_SETTINGS: tuple[type[Settings], ...] = (Seeded, Device, Models, Cameras)
"""What every run has, whatever its methods."""


def not_a_multiple(field: str, value: int, unit: int, method: str) -> Iterator[str]:
    """A fault if a network can't halve a side as often as it must."""
    if value % unit:
        yield f"{field}: {method} needs a multiple of {unit}, for example {value // unit * unit}, not {value}"
