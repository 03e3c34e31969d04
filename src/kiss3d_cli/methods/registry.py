"""The registry of methods: those of this package, in the order in which messages name them, and those of others.

Another package offers a method through an entry point of the group `kiss3d.methods` that leads to its class.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from kiss3d_cli.methods.base import Method

GROUP = "kiss3d.methods"
METHODS = (
    "preprocess.grabcut:GrabCut",
    "preprocess.rembg:Rembg",
    "preprocess.auto:Auto",
    "preprocess.mesh:Mesh",
    "caption.describe:Describe",
    "caption.florence2:Florence2",
    "caption.text:Text",
    "sides.register:Register",
    "multiview.inflate:Inflate",
    "multiview.prior:Prior",
    "multiview.lvsm:Lvsm",
    "multiview.zero123plus:Zero123Plus",
    "reference.surface:Surface",
    "reference.lrm:Lrm",
    "reference.mesh:Mesh",
    "prompt.flux:Flux",
    "prompt.text:Text",
    "bundle.reference:Reference",
    "bundle.flux:Flux",
    "bundle.redux:Redux",
    "bundle.enhance:Enhance",
    "bundle.text:Text",
    "bundle.file:File",
    "reconstruct.hull:Hull",
    "reconstruct.surface:Surface",
    "reconstruct.wavemesh:WaveMesh",
    "reconstruct.lrm:Lrm",
    "reconstruct.mesh:Mesh",
    "refine.isomer:Isomer",
    "check.front:Front",
    "place.frame:Frame",
    "eval.surface:Surface",
    "export.files:Files",
)


@cache
def methods() -> Mapping[str, Mapping[str, Method[Any]]]:
    """All methods by stage and by name.

    Raises:
        ValueError: two have the same name, or declare the same setting in two ways: a fault of who wrote them.
    """
    found: dict[str, dict[str, Method[Any]]] = {}
    kinds = [_load(place) for place in METHODS] + [entry.load() for entry in entry_points(group=GROUP)]
    for kind in kinds:
        method = kind()
        if method.name in found.setdefault(method.stage, {}):
            raise ValueError(f"the stage {method.stage} has two methods called {method.name}")
        found[method.stage][method.name] = method
    return found


def _load(place: str) -> type[Method[Any]]:
    module, _, name = place.partition(":")
    kind: type[Method[Any]] = getattr(importlib.import_module(f"kiss3d_cli.methods.{module}"), name)
    return kind
