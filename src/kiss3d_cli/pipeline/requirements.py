"""What a plan needs of the machine before any work may start: packages, a GPU, models and every file of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import Missing
from kiss3d_cli.core.packages import require_packages
from kiss3d_cli.methods.base import Method
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.models.store import preflight
from kiss3d_cli.models.store.locate import Located
from kiss3d_cli.models.store.registry import Model, lookup
from kiss3d_cli.pipeline.config import Config
from kiss3d_cli.pipeline.plan import Action, Step, chosen_methods
from kiss3d_cli.pipeline.stages import stages

FROM_A_PICTURE = "start from a picture, kiss3d run image.png --preset draft"
LARGE = 2 * 10**9
"""Bytes of weights from which Flux is not for the CPU."""


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


def require_gpu(
    plan: Sequence[Step], config: Config, device: devices.DeviceInfo, models: Mapping[str, Located]
) -> None:
    """Raises Missing if Flux would end up on Metal, or at its full size on a CPU that nobody asked for by name."""
    name = "flux-dev"
    if all(name not in m.models(config.of(m)) for m in _working(plan)):
        return
    if device.name == "mps":
        raise Missing(
            "Flux can't run on Metal: torch has no fp8 there",
            place="device.name=mps",
            hint=_without_flux(plan, config, models),
        )
    if device.is_gpu or device.why == "asked for":
        return
    if store.bytes_of(lookup(name), models.get(name)) >= LARGE:
        raise Missing(
            f"Flux needs a GPU ({device.why.removeprefix('auto: ')}); on a CPU one bundle takes about 10 hours",
            place="bundle.method",
            hint=f"{_without_flux(plan, config, models)}, or --set device.name=cpu to wait for it",
        )


def _without_flux(plan: Sequence[Step], config: Config, models: Mapping[str, Located]) -> str:
    if config["bundle.method"] != "text":
        return "--preset draft, or --set bundle.method=reference"
    absent = missing_models(plan, config, models)
    pull = preflight.pull_command([model.name for model in absent], weights_root(config))
    there = f"; on a machine with a GPU {pull} gets the weights" if absent else ""
    return f"{FROM_A_PICTURE}{there}"


def _working(plan: Sequence[Step]) -> list[Method[Any]]:
    working = [step for step in plan if step.action in (Action.RUN, Action.CHECK)]
    return [step.stage.methods[step.method] for step in working]


def unusable_files(plan: Sequence[Step], config: Config) -> list[preflight.Fault]:
    """Files of these models that can't be used, as far as the models are there at all."""
    return preflight.check(loaded_models(plan, config), weights_root(config), comfyui_folder(config))


def require_files(missing: Sequence[Model], unusable: Sequence[preflight.Fault], config: Config) -> None:
    """Raises Missing if a model is not there or a file can't be used; it names them all."""
    refused = preflight.refusal(missing, unusable, weights_root(config))
    if refused is not None and refused.hint is not None and config["bundle.method"] == "text":
        refused.hint = refused.hint.replace(store.DRAFT, f"or {FROM_A_PICTURE}, which needs none")
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
