"""Reading a configuration: a preset, a file and single settings, laid over the defaults of `schema`.

Later layers win. Every fault of every layer is collected, so that one message names them all.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.schema import Config

PRESETS = ("draft", "12gb", "fast", "quality")


def presets_dir() -> Path:
    """The folder of the preset files: inside the installed package, or `configs/` of a checkout."""
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One source of settings.

    Attributes:
        name: how messages call it, for example `--set` or a file's path.
        values: a nested mapping of settings.
    """

    name: str
    values: Mapping[str, Any]


def preset_layer(name: str) -> Layer:
    if name not in PRESETS:
        raise BadInput(
            f"there is no preset '{name}'{_suggest(name, PRESETS)}",
            place="--preset",
            hint=f"choose one of: auto, {', '.join(PRESETS)}",
        )
    return file_layer(presets_dir() / f"{name}.yaml")


def file_layer(path: Path) -> Layer:
    """Settings from a YAML file. Raises BadInput if it can't be read or is not a mapping."""
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise BadInput("no such file", place=str(path), hint="give --config an existing YAML file") from None
    except Exception as error:  # yaml raises many kinds, none of them in a common tree with OmegaConf's
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"not a YAML file of settings: {reason}", place=str(path), hint="write it as in configs/draft.yaml"
        ) from None
    if not isinstance(loaded, dict):
        raise BadInput("its top level is not a mapping", place=str(path), hint="write it as in configs/draft.yaml")
    return Layer(str(path), {str(key): value for key, value in loaded.items()})


def settings_layer(assignments: Sequence[str]) -> Layer:
    """Settings as `section.key=value`, the value written as in YAML."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise BadInput(
                f"'{assignment}' is not of the form key=value", place="--set", hint="for example: --set refine.steps=80"
            )
        try:
            parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
            value = parsed["value"]
        except Exception:  # not YAML: then it is meant as plain text
            value = text
        _put(values, key, value)
    return Layer("--set", values)


def load(*layers: Layer) -> Config:
    """The defaults with the layers on top.

    Raises:
        BadInput: naming every unknown key, ill-typed value and value out of bounds at once.
    """
    given: dict[str, Any] = {}
    faults: list[str] = []
    for layer in layers:
        for key, value in _leaves(layer.values):
            fault = _fault(key, value)
            if fault:
                faults.append(f"{key} ({layer.name}): {fault}")
            else:
                _put(given, key, value)
    config: Any = None
    if not faults:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), given))
        faults = _conflicts(config)
    if faults:
        count = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        raise BadInput(
            f"{count}\n" + "\n".join(f"  - {fault}" for fault in faults),
            place="config",
            hint="kiss3d run --help-settings lists every setting with its default",
        )
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain lists, numbers and strings, fit for JSON."""
    values: Any = OmegaConf.to_container(OmegaConf.structured(config))
    return values


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


@dataclasses.dataclass(frozen=True)
class Setting:
    """One documented setting: a field of a section's dataclass, its owner."""

    key: str
    owner: type
    name: str
    annotation: str
    default: Any
    choices: tuple[str, ...]
    help: str
    low: float | None
    high: float | None


@cache
def settings() -> Mapping[str, Setting]:
    """Every setting by its dotted key, in the order of the schema."""
    return {setting.key: setting for setting in _settings_of(Config, "")}


def _settings_of(owner: type, prefix: str) -> Iterator[Setting]:
    sentences = _sentences(owner)
    for entry in dataclasses.fields(owner):
        if dataclasses.is_dataclass(entry.default):
            yield from _settings_of(type(entry.default), f"{entry.name}.")
            continue
        annotation = str(entry.type)
        choices = ast.literal_eval(annotation[len("Literal") :]) if annotation.startswith("Literal[") else ()
        yield Setting(
            prefix + entry.name,
            owner,
            entry.name,
            annotation,
            entry.default,
            tuple(choices),
            sentences[entry.name],
            entry.metadata.get("low"),
            entry.metadata.get("high"),
        )


def _sentences(owner: type) -> dict[str, str]:
    """The string under each field of a dataclass: Python drops them, the source keeps them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for entry, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(entry, ast.AnnAssign)
            and isinstance(entry.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[entry.target.id] = str(following.value.value)
    return found


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves({str(k): v for k, v in value.items()}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *parents, last = key.split(".")
    inner = values
    for parent in parents:
        below = inner.setdefault(parent, {})
        if not isinstance(below, dict):
            raise BadInput(f"'{parent}' is given both as a value and as a section", place=key, hint="give it once")
        inner = below
    inner[last] = value
    return values


def _fault(key: str, value: Any) -> str | None:
    """What is wrong with one setting, or None."""
    known = settings()
    if key not in known:
        sections = {name.partition(".")[0] for name in known if "." in name}
        if key in sections:
            return "this is a section, not a setting"
        return f"no such setting{_suggest(key, known)}"
    if "${" in str(value):
        return "interpolation is not supported"
    setting = known[key]
    try:
        merged: Any = OmegaConf.merge(_alone(setting.owner, setting.name), {setting.name: value})
    except OmegaConfBaseException:
        return f"'{value}' is not {_kind(setting)}"
    typed = merged[setting.name]
    numbers = list(typed) if isinstance(setting.default, tuple) else [typed]
    for number in numbers:
        if isinstance(number, int | float) and not isinstance(number, bool) and not _within(number, setting):
            return f"{number:g} is not {_kind(setting)}"
    return None


def _within(number: float, setting: Setting) -> bool:
    low = -math.inf if setting.low is None else setting.low
    high = math.inf if setting.high is None else setting.high
    return math.isfinite(number) and low <= number <= high


def _kind(setting: Setting) -> str:
    """What a setting accepts, in words."""
    if setting.choices:
        return f"one of: {', '.join(setting.choices)}"
    if isinstance(setting.default, bool):
        return "true or false"
    entry = setting.annotation
    words = {"int": "a whole number", "float": "a number", "str": "a text"}
    many = entry.startswith("tuple")
    base = next((words[name] for name in words if name in entry), "a value")
    if many:
        base = f"a list in which each is {base}"
    if setting.low is not None and setting.high is not None:
        base += f" from {setting.low:g} to {setting.high:g}"
    elif setting.low is not None:
        base += f" of at least {setting.low:g}"
    return base


@cache
def _alone(owner: type, name: str) -> Any:
    """One field of a section by itself: merging into a whole section copies all of it, for every single setting."""
    field = next(entry for entry in dataclasses.fields(owner) if entry.name == name)
    one = (name, get_type_hints(owner)[name], dataclasses.field(default=field.default))
    return OmegaConf.structured(dataclasses.make_dataclass("Alone", [one], frozen=True))


def _conflicts(config: Config) -> list[str]:
    """Settings that are fine alone and wrong together."""
    modes = ("canny", "tile", "depth", "blur", "gray", "lq")  # pose can't be derived from a bundle
    bundle = config.bundle
    faults = [
        f"bundle.controls: there is no control '{name}'{_suggest(name, modes)}; there are {', '.join(modes)}"
        for name in bundle.controls
        if name not in modes
    ]
    for key in ("control_scales", "control_starts", "control_ends"):
        given = len(getattr(bundle, key))
        if given != len(bundle.controls):
            faults.append(f"bundle.{key}: {given} for {len(bundle.controls)} controls; give one for each")
    faults += [
        f"bundle.control_ends: the control '{name}' would end at {end:g}, and not set in before {start:g}"
        for name, start, end in zip(bundle.controls, bundle.control_starts, bundle.control_ends, strict=False)
        if start >= end
    ]
    # what the networks halve again and again: Flux its VAE's latents once, Zero123++'s UNet three times
    tiles = [("bundle", 8)] if bundle.method in ("flux", "redux") else []
    tiles += [("multiview", 32)] if config.multiview.method == "zero123plus" else []
    for section, unit in tiles:
        side = getattr(config, section).tile
        if side % unit:
            method = getattr(config, section).method
            near = side // unit * unit
            faults.append(f"{section}.tile: {method} needs a multiple of {unit}, for example {near}, not {side}")
    for key, count in (("view_weights", 4), ("color_weights", 4), ("betas", 3), ("edge_lengths", 2)):
        given = len(getattr(config.refine, key))
        if given != count:
            faults.append(f"refine.{key}: {given} values where {count} are needed")
    if len(config.refine.coarse_edge_lengths) != 2:
        faults.append(f"refine.coarse_edge_lengths: {len(config.refine.coarse_edge_lengths)} values where 2 are needed")
    return faults


def _suggest(wrong: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
