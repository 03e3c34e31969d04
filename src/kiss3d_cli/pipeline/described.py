"""Settings in words: what each accepts, its default and the values that presets give, for help texts and references."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from kiss3d_cli.pipeline.config import FIRST_PRESETS, Setting, load, preset_layer, settings
from kiss3d_cli.pipeline.stages import stages

EMPTY = "empty"


def by_section() -> Iterator[tuple[str, list[Setting]]]:
    """All settings, those of a section together: first those of the run, then the sections in the stages' order."""
    found = list(settings().values())
    order = dict.fromkeys([setting.key.rpartition(".")[0].partition(".")[0] for setting in found])
    stage_names = [stage.name for stage in stages()]
    names = [name for name in order if name not in stage_names] + [name for name in stage_names if name in order]
    for name in sorted(names, key=bool):  # without a section first
        yield name, [setting for setting in found if setting.key.rpartition(".")[0].partition(".")[0] == name]


def kind_of(setting: Setting) -> str:
    """What a setting accepts, in words: `a number from 0 to 1, or empty`."""
    kind = str(setting.form)
    optional = type(None) in getattr(setting.annotation, "__args__", ())
    return f"{kind}, or {EMPTY}" if optional else kind


def preset_values(setting: Setting) -> dict[str, Any]:
    """The value that each preset gives, by the preset's name; none where it is the default."""
    values = {name: found[setting.key] for name, found in _presets().items()}
    return {name: value for name, value in values.items() if value != setting.default}


def written(value: Any) -> str:
    """A value as it is typed after `--set KEY=`; nothing for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(inner) for inner in value)}]"
    return str(value)


@cache
def _presets() -> dict[str, Any]:
    return {name: load(preset_layer(name)).values for name in FIRST_PRESETS}
