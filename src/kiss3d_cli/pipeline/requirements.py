"""What a plan needs of the machine before any work may start: packages, a GPU, models and every file of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.packages import require_packages
from kiss3d_cli.methods.base import Method, Prospect
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.models.store import preflight
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.models.store.model import Model
from kiss3d_cli.models.store.registry import lookup
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.plan import Action, Step, chosen_methods
from kiss3d_cli.pipeline.stages import stages


def missing_models(plan: Sequence[Step], config: Config, models: Mapping[str, Located]) -> list[Model]:
    """Models of the stages that will run; a finished stage needs its weights no more."""
    return store.missing(loaded_models(plan, config), models)


def loaded_models(plan: Sequence[Step], config: Config) -> list[str]:
    """Registry names of the models that the stages which will run load."""
    return list(dict.fromkeys(name for method in _working(plan) for name in method.models(config.of(method))))


def needed_models(config: Config) -> list[str]:
    """Registry names of every model that the chosen methods load."""
    methods = chosen_methods(stages(), config)
    return list(dict.fromkeys(name for method in methods for name in method.models(config.of(method))))


def require_packages_of(plan: Sequence[Step]) -> None:
    """Raises Missing, naming every package that a stage which will run imports and that is not there."""
    require_packages((name for method in _working(plan) for name in method.packages), "packages")


def require_device(
    plan: Sequence[Step], config: Config, device: devices.DeviceInfo, models: Mapping[str, Located]
) -> None:
    """Raises Missing if a stage that will run can't do its work on this device, or not in a time to be waited for."""
    absent = [model.name for model in missing_models(plan, config, models)]
    prospect = Prospect(
        device,
        lambda name: store.bytes_of(lookup(name), models.get(name)),
        preflight.pull_command(absent, weights_root(config)) if absent else None,
    )
    for method in _working(plan):
        method.require(config.of(method), prospect)


def _working(plan: Sequence[Step]) -> list[Method[Any]]:
    working = [step for step in plan if step.action in (Action.RUN, Action.CHECK)]
    return [step.stage.methods[step.method] for step in working]


def unusable_files(plan: Sequence[Step], config: Config) -> list[preflight.Fault]:
    """Files of these models that can't be used, as far as the models are there at all."""
    return preflight.check(loaded_models(plan, config), weights_root(config), comfyui_folder(config))


def require_files(missing: Sequence[Model], unusable: Sequence[preflight.Fault], config: Config) -> None:
    """Raises Missing if a model is not there or a file can't be used; it names them all."""
    ways = [method.alternative for method in chosen_methods(stages(), config) if method.alternative is not None]
    refused = preflight.refusal(missing, unusable, weights_root(config), *ways[:1])
    comfyui = comfyui_folder(config)
    if refused is not None and comfyui is not None and any(fault.path.is_relative_to(comfyui) for fault in unusable):
        refused.hint = (
            f"mend or move those of them in {comfyui}, or leave models.comfyui away and\n       {refused.hint}"
        )
    if refused is not None:
        raise refused


def is_there(method: Method[Any], config: Config) -> bool:
    """Whether all packages and weights of a method are on this machine; what is wrong with a file is told elsewhere."""
    if any(find_spec(package) is None for package in method.packages):
        return False
    names = method.models(config.of(method))
    return set(names) <= set(store.find_all(list(names), weights_root(config), comfyui_folder(config)))


def weights_root(config: Config) -> Path | None:
    """The user's own folder of weights, if there is one."""
    return None if config["models.root"] is None else Path(config["models.root"])


def comfyui_folder(config: Config) -> Path | None:
    """The user's ComfyUI, if it is to be looked in."""
    return None if config["models.comfyui"] is None else Path(config["models.comfyui"])
