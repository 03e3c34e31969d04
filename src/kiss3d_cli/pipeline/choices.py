"""What a request stands for: its preset where that is `auto`, and its settings, layer over layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from kiss3d_cli.core import device as devices
from kiss3d_cli.core.errors import BadInput, Missing
from kiss3d_cli.core.packages import require_packages
from kiss3d_cli.models.store import locate as store
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline import requirements
from kiss3d_cli.pipeline.config import Config, Layer
from kiss3d_cli.pipeline.inputs import Given
from kiss3d_cli.pipeline.plan import chosen_methods
from kiss3d_cli.pipeline.requirements import needed_models
from kiss3d_cli.pipeline.stages import stages

GIB = 2**30
AUTO_MEMORY = 10 * GIB
"""Video memory from which `auto` takes the 12gb preset: what a 12 GB card has left under a desktop."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        inputs: what the user gave, by the name of its kind.
        preset: `auto` or a preset's name.
        caption: a caption to use instead of one made from the picture.
        strength: how much the bundle may differ from what it starts from, from 0 to 1.
        settings: `key=value` assignments; they win over `config_file`, which wins over the preset.
        base_settings: the same, between the preset and `config_file`: what the kind of input suggests.
        out: the folder of runs.
        name: the run's name; None takes the picture's.
        command: the command line, for the record.
    """

    inputs: Mapping[str, Given] = dataclasses.field(default_factory=dict)
    preset: str = "auto"
    config_file: Path | None = None
    settings: tuple[str, ...] = ()
    base_settings: tuple[str, ...] = ()
    caption: str | None = None
    seed: int | None = None
    strength: float | None = None
    out: Path = Path("outputs")
    name: str | None = None
    until: str | None = None
    command: str = ""


def choose_preset(device_name: str = "auto", root: Path | None = None, comfyui: Path | None = None) -> tuple[str, str]:
    """The preset that `auto` stands for on a device, and why.

    Args:
        root, comfyui: where the weights are looked for, as `models.root` and `models.comfyui`.
    """
    device = devices.resolve(device_name)
    if not device.is_cuda:
        return "draft", device.why.removeprefix("auto: ")
    if (device.memory_bytes or 0) < AUTO_MEMORY:
        return "draft", f"{device.model} has {(device.memory_bytes or 0) / GIB:.1f} GiB, 12gb needs 10 GiB"
    try:
        config = configuration.load(configuration.preset_layer("12gb"))
        names = needed_models(config)
    except BadInput as error:
        return "draft", f"12gb can't run: {error.cause}"
    try:
        methods = chosen_methods(stages(), config)
        require_packages([name for method in methods for name in method.packages], "12gb")
    except Missing as error:
        return "draft", f"12gb can't run: {error.cause}"
    absent = store.missing(names, store.find_all(names, root, comfyui))
    if absent:
        return "draft", f"the weights of 12gb are not here: {', '.join(model.name for model in absent)}"
    return "12gb", f"{device.model} has {(device.memory_bytes or 0) / GIB:.1f} GiB and the weights are here"


def configure(request: Request, suggested: Sequence[Layer]) -> tuple[str, str, Config]:
    """The preset's name, why it was taken, and the whole configuration."""
    layers = [configuration.settings_layer(request.base_settings), *suggested]
    if request.config_file is not None:
        layers.append(configuration.file_layer(request.config_file))
    layers.append(configuration.settings_layer(request.settings))
    if request.caption is not None:
        layers.append(configuration.Layer("--caption", {"caption": {"text": request.caption}}))
    if request.strength is not None:
        layers.append(configuration.Layer("--strength", {"bundle": {"strength": request.strength}}))
    if request.seed is not None:
        layers.append(configuration.Layer("--seed", {"seed": request.seed}))
    preset, reason = request.preset, "asked for"
    wanted = _preset_of_methods(layers) if preset == "auto" else None
    if wanted is not None:
        preset, reason = wanted
    elif preset == "auto":
        folders = (_asked(layers, "models", name) for name in ("root", "comfyui"))
        root, comfyui = (None if folder is None else Path(folder) for folder in folders)
        preset, reason = choose_preset(_asked(layers, "device", "name") or "auto", root, comfyui)
    return preset, reason, settled(configuration.load(configuration.preset_layer(preset), *layers))


def settled(config: Config) -> Config:
    """The configuration with every method that stands for another replaced by that one, as this machine has it."""
    values = dict(config.values)
    for stage in stages():
        key = f"{stage.name}.method"
        method = stage.methods.get(config[key])
        values[key] = (
            method and method.instead(lambda name: requirements.is_there(stage.methods[name], config))  # noqa: B023 (called at once)
        ) or config[key]
    return Config(values)


def _preset_of_methods(layers: Sequence[Layer]) -> tuple[str, str] | None:
    """The preset that one of the methods asked for has no way without, and why."""
    asked = ((stage, _asked(layers, stage.name, "method")) for stage in stages())
    methods = (stage.methods.get(name) for stage, name in asked if name is not None)
    return next((method.preset for method in methods if method is not None and method.preset is not None), None)


def _asked(layers: Sequence[Layer], section: str, name: str) -> str | None:
    """What the last layer that has this setting says; None if none does."""
    found = None
    for layer in layers:
        values = layer.values.get(section)
        if isinstance(values, Mapping) and isinstance(values.get(name), str):
            found = values[name]
    return found
