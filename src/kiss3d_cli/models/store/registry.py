"""Every model that a method may load, as the networks declare them: those of this package and those of others.

Another package offers a network through an entry point of the group `kiss3d.models` that leads to a `Network`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.models.store.model import Model, Network

GROUP = "kiss3d.models"
NETWORKS = ("isnet", "florence2", "zero123plus", "lrm", "flux", "dinov2", "chat")
"""Packages beside this one, each with its `published.NETWORK`, in the order in which lists name them."""


@cache
def networks() -> tuple[Network, ...]:
    """All networks.

    Raises:
        ValueError: two models have the same name: a fault of who declared them.
    """
    parent = __package__.rpartition(".")[0]
    found: list[Network] = [importlib.import_module(f"{parent}.{name}.published").NETWORK for name in NETWORKS]
    found += [entry.load() for entry in entry_points(group=GROUP)]
    names = [model.name for network in found for model in network.models]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"there are two models called {name}")
    return tuple(found)


@cache
def models() -> Mapping[str, Model]:
    """Every declared model by its name."""
    return {model.name: model for network in networks() for model in network.models}


def network_of(name: str) -> Network:
    """The network that a model belongs to. Raises BadInput if there is no such model."""
    lookup(name)
    listed = (network for network in networks() if any(model.name == name for model in network.models))
    return next(listed, None) or next(network for network in networks() if network.unlisted is not None)


def lookup(name: str) -> Model:
    """The model of this name; `owner/name` is any repository of the hub.

    Raises:
        BadInput: there is no such model.
    """
    if name in models():
        return models()[name]
    owner, _, repository = name.partition("/")
    unlisted = next((network.unlisted for network in networks() if network.unlisted is not None), None)
    if not owner or not repository or "/" in repository or unlisted is None:
        raise BadInput(
            f"there is no model '{name}'", place="models", hint=f"choose of: {', '.join(models())}, or owner/name"
        )
    return dataclasses.replace(unlisted, name=name, repository=name)
