"""One call of a method as the runner makes it, without a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kiss3d_cli.core.device import DeviceInfo
from kiss3d_cli.core.progress import Progress
from kiss3d_cli.geometry.settings import IntegrationSettings
from kiss3d_cli.methods.base import Context, Machine, Method
from kiss3d_cli.methods.refine import isomer
from kiss3d_cli.methods.registry import methods
from kiss3d_cli.pipeline.config import Layer, load

CPU = DeviceInfo("cpu", "CPU", "test")


def integrate_small(patch: pytest.MonkeyPatch) -> None:
    """Have normals integrated at the sizes of small bundles, not of published ones: a quarter of the work."""
    sizes = IntegrationSettings(sizes=(24, 48, 96))
    patch.setattr(isomer, "DEFAULT", dataclasses.replace(isomer.DEFAULT, integration=sizes))


def method(stage: str, name: str) -> Method[Any]:
    return methods()[stage][name]


@dataclasses.dataclass
class Call:
    """A method about to be called: `settings` are nested, by section."""

    method: Method[Any]
    context: Context
    settings: dict[str, dict[str, Any]]
    models: dict[str, Path] = dataclasses.field(default_factory=dict)
    device: DeviceInfo = CPU

    def __call__(self) -> Context:
        settings = load(Layer("test", self.settings)).of(self.method)
        with self.method.open(settings, Machine(self.device, self.models)) as work:
            work(self.context)
        return self.context


def context(name: str, folder: Path, inputs: dict[str, Path], **more: Any) -> Context:
    """A context whose output is `folder/<name>`, made anew, beside its scratch."""
    output, scratch = folder / name, folder / f"{name}.scratch"
    for path in (output, scratch):
        path.mkdir(parents=True, exist_ok=True)
    return Context(inputs, output, more.pop("progress", Progress(name)), scratch)
