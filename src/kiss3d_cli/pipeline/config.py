"""Reading a configuration: a preset, a file and single settings, laid over the defaults of the methods.

What there is to set is assembled from the stages and their methods. Later layers win. Every fault of every layer is
collected, so that one message names them all.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache, partial
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import open_given
from kiss3d_cli.core.records import YAML_LIMIT, BadRecord, parse_yaml
from kiss3d_cli.methods.base import Method, S, Settings
from kiss3d_cli.methods.shared import RUN_SETTINGS
from kiss3d_cli.pipeline.stages import stages

FIRST_PRESETS = ("draft", "12gb", "fast", "quality")
PRESET_GROUP = "kiss3d.presets"
_DEEPEST = 8
_LISTED = "kiss3d run --help-settings lists every setting with its default"
_CONVERSION = ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One source of settings.

    Attributes:
        name: how messages call it, for example `--set` or a file's path.
        values: a nested mapping of settings.
    """

    name: str
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run: the value of every setting by its dotted key."""

    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def of(self, method: Method[S]) -> S:
        """The settings of a method."""
        keys = method.settings.keys(method.stage)
        return typing.cast(S, method.settings(**{name: self.values[key] for name, key in keys.items()}))

    def recorded(self, method: Method[Any]) -> dict[str, Any]:
        """The same by dotted key, fit for JSON: part of the key of a stage."""
        return {key: _plain(self.values[key]) for key in method.settings.keys(method.stage).values()}


@dataclasses.dataclass(frozen=True)
class Form:
    """What a setting accepts; as a text, in words.

    Attributes:
        base: the type of the value, or of each one in a list.
        choices: the texts to choose from, if these are all.
        low, high: inclusive bounds of numbers.
        many: it is a list; `count` is its length, 0 for any.
    """

    base: type = str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    many: bool = False
    count: int = 0

    @classmethod
    def of(cls, annotation: Any, bounds: Sequence[Any] = ()) -> Form:
        """The form of a field's annotation and of the constraints beside it."""
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is tuple:
            count = 0 if arguments[-1] is Ellipsis else len(arguments)
            return dataclasses.replace(cls.of(arguments[0]), many=True, count=count)
        if origin is typing.Annotated:
            constraints = [part for more in arguments[1:] for part in getattr(more, "metadata", (more,))]
            return cls.of(arguments[0], constraints)
        if origin is typing.Literal:
            return cls(choices=arguments)
        if origin in (typing.Union, types.UnionType):
            return cls.of(next(part for part in arguments if part is not type(None)), bounds)
        low = next((part.ge for part in bounds if hasattr(part, "ge")), None)
        high = next((part.le for part in bounds if hasattr(part, "le")), None)
        return cls(annotation, low=low, high=high)

    def __str__(self) -> str:
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.base is bool:
            return "true or false"
        words = {int: "a whole number", float: "a number", str: "a text"}[self.base]
        if self.many:
            words = f"a list in which each is {words}"
        if self.low is not None and self.high is not None:
            words += f" from {spelled(self.low)} to {spelled(self.high)}"
        elif self.low is not None:
            words += f" of at least {spelled(self.low)}"
        return words


@dataclasses.dataclass(frozen=True)
class Setting:
    """One documented setting, as it was declared: its type, its default and its bounds.

    Attributes:
        told: the sentence about it, asked for when it is needed.
    """

    key: str
    annotation: Any
    default: Any
    bounds: tuple[Any, ...] = ()
    told: Callable[[], str] = dataclasses.field(default=str, compare=False)

    @property
    def help(self) -> str:
        return self.told()

    @cached_property
    def form(self) -> Form:
        return Form.of(self.annotation, self.bounds)

    @cached_property
    def convert(self) -> Callable[[Any], Any]:
        """The value as the setting has it; raises pydantic's ValidationError."""
        kind: Any = typing.Annotated[(self.annotation, *self.bounds)] if self.bounds else self.annotation
        return TypeAdapter(kind, config=_CONVERSION).validate_python


@cache
def settings() -> Mapping[str, Setting]:
    """Every setting by its dotted key.

    Raises:
        ValueError: two methods declare one key in two ways: a fault of who wrote them.
    """
    found: dict[str, Setting] = {}
    for owner in RUN_SETTINGS:
        _declare(found, owner, "")
    for stage in stages():
        names = (*stage.methods, *(("none",) if stage.optional else ()))
        key = f"{stage.name}.method"
        found[key] = Setting(key, Literal[names], stage.default, told=partial(str, stage.help))
        for method in stage.methods.values():
            _declare(found, method.settings, stage.name)
    return found


def _declare(found: dict[str, Setting], owner: type[Settings], stage: str) -> None:
    for name, key in owner.keys(stage).items():
        field = owner.model_fields[name]
        if field.is_required():  # it is declared elsewhere, as the method of another stage is
            continue
        setting = Setting(key, field.annotation, field.default, tuple(field.metadata), partial(owner.sentence, name))
        if found.setdefault(key, setting) != setting:
            raise ValueError(f"the setting {key} is declared twice, in two ways")


@cache
def presets() -> Mapping[str, Path]:
    """The file of every preset, by name; other packages add theirs through entry points of `kiss3d.presets`.

    The name of such an entry point is the preset's, its value the package in which `<name>.yaml` is.
    """
    packaged = Path(__file__).parents[1] / "configs"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"
    here = {path.stem: path for path in folder.glob("*.yaml")}
    names = [*FIRST_PRESETS, *sorted(here.keys() - set(FIRST_PRESETS))]
    found = {name: here[name] for name in names}
    for entry in entry_points(group=PRESET_GROUP):
        found[entry.name] = Path(str(files(entry.value) / f"{entry.name}.yaml"))
    return found


def preset_layer(name: str) -> Layer:
    if name not in presets():
        raise BadInput(
            f"there is no preset '{name}'{_suggest(name, presets())}",
            place="--preset",
            hint=f"choose one of: auto, {', '.join(presets())}",
        )
    path = presets()[name]
    return copy.deepcopy(_preset_of(path, path.stat().st_mtime_ns if path.exists() else 0))


@lru_cache(maxsize=16)
def _preset_of(path: Path, _changed: int) -> Layer:
    """Read once for all runs of a data set."""
    return file_layer(path)


def file_layer(path: Path) -> Layer:
    """Settings from a YAML file. Raises BadInput if it can't be read or is not a mapping."""
    try:
        with open_given(path) as stream:
            loaded = parse_yaml(stream.read(YAML_LIMIT + 1)) or {}  # nothing of an empty file
    except FileNotFoundError:
        raise BadInput("no such file", place=str(path), hint="give --config an existing YAML file") from None
    except BadRecord as error:
        raise BadInput(
            f"not a YAML file of settings: {error}", place=str(path), hint="write it as in configs/draft.yaml"
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
        if key.count(".") >= _DEEPEST:
            raise BadInput(f"there is no such setting as '{key[:80]}'", place="--set", hint=_LISTED)
        _put(values, key, _parsed(key, text))
    return Layer("--set", values)


def _parsed(key: str, text: str) -> Any:
    """The value that a text stands for: as in YAML, but where a text is wanted it is taken as it is.

    A text in quotes is the one within them, and `null` is none.
    """
    setting = settings().get(key)
    plain = setting is not None and setting.form.base is str and not setting.form.many and not setting.form.choices
    if plain and text.strip() not in ("null", "~") and text[:1] not in ("'", '"'):
        return text
    try:
        value = parse_yaml(text.encode("utf-8", "surrogateescape"))
    except BadRecord:  # not YAML: then it is meant as plain text
        return text
    return text if plain and value is not None and not isinstance(value, str) else value


def load(*layers: Layer) -> Config:
    """The defaults with the layers on top.

    Raises:
        BadInput: naming every unknown key, ill-typed value and value out of bounds at once.
    """
    values = {key: setting.default for key, setting in settings().items()}
    faults: list[str] = []
    for layer in layers:
        for key, given in _leaves(layer.values):
            try:
                values[key] = _checked(key, given)
            except ValueError as error:
                faults.append(f"{key} ({layer.name}): {error}")
    config = Config(values)
    if not faults:
        faults = list(_conflicts(config))
    if faults:
        count = "1 setting is wrong" if len(faults) == 1 else f"{len(faults)} settings are wrong"
        raise BadInput(
            f"{count}\n" + "\n".join(f"  - {fault}" for fault in faults),
            place="config",
            hint="kiss3d run --help-settings lists every setting with its default",
        )
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain lists, numbers and strings, by section, fit for JSON."""
    found: dict[str, Any] = {}
    for key, value in config.values.items():
        _put(found, key, _plain(value))
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


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


def _checked(key: str, value: Any) -> Any:
    """The value as its setting has it. Raises ValueError with what is wrong with it."""
    known = settings()
    if key not in known:
        sections = {name.partition(".")[0] for name in known if "." in name}
        if key in sections:
            raise ValueError("this is a section, not a setting")
        raise ValueError(f"no such setting{_suggest(key, known)}")
    if "${" in str(value):
        raise ValueError("interpolation is not supported")
    form = known[key].form
    if isinstance(value, bool) and form.base is str:
        value = str(value)
    if isinstance(value, bool) and form.base in (int, float):
        raise ValueError(f"'{value}' is not {form}")
    try:
        return known[key].convert(value)
    except ValidationError as error:
        bad = error.errors(include_url=False, include_context=False)[0]["input"]
    if form.count and isinstance(value, list | tuple) and len(value) != form.count:
        raise ValueError(f"{len(value)} values where {form.count} are needed")
    shown = spelled(bad) if isinstance(bad, int | float) and not isinstance(bad, bool) else f"'{bad}'"
    raise ValueError(f"{shown} is not {form}")


def _conflicts(config: Config) -> Iterator[str]:
    """Settings of the chosen methods that are fine alone and wrong together, each told once."""
    told: dict[str, None] = {}
    for stage in stages():
        method = stage.methods.get(config[f"{stage.name}.method"])
        if method is None:
            continue
        keys = method.settings.keys(method.stage)
        for fault in config.of(method).faults():
            field, colon, sentence = fault.partition(":")
            told[f"{keys[field]}{colon}{sentence}"] = None
    yield from told


def spelled(value: float) -> str:
    """A bound or a value as one reads it: 2,000,000 and not 2e+06."""
    if value == 2**63 - 1:
        return "2^63 - 1"
    if isinstance(value, int) and abs(value) >= 10**15:
        return f"{str(value)[:20]}..." if abs(value) >= 10**20 else str(value)
    if abs(value) < 1e15 and value == int(value):
        return f"{int(value):,}" if abs(value) >= 100_000 else str(int(value))
    return f"{value:g}"


def _suggest(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong[:80], list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
