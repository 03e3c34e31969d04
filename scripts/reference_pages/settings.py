"""docs/reference/settings.md: every setting with its type, bounds and default, assembled as the configuration is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kiss3d_cli.methods.shared import RUN_SETTINGS
from kiss3d_cli.pipeline.config import FIRST_PRESETS, Setting, load, preset_layer, settings
from kiss3d_cli.pipeline.stages import stages
from reference_pages import sentence

INTRO = """# Settings

Change a setting with `--set KEY=VALUE` or in a YAML file given to `--config`. Both work with `kiss3d run`;
`kiss3d resume` takes `--set`. A later source wins: defaults, preset, file, `--set`.

```
kiss3d run image.png --set refine.target_faces=20000 --set preprocess.keep=largest
```

`kiss3d run --help-settings` prints the same list in a terminal. A setting belongs to the stages that read it.
Changing it makes only those stages, and what depends on them, run again. Values that a preset changes are listed.
"""
EMPTY = "empty"


def page() -> str:
    presets = {name: load(preset_layer(name)).values for name in FIRST_PRESETS}
    read = _readers()
    parts, section = [INTRO], None
    for setting in _by_section():
        if (head := setting.key.partition(".")[0] if "." in setting.key else "") != section:
            section = head
            parts.append(f"## {section}\n" if section else "## The run\n")
        parts.append(_entry(setting, presets, read.get(setting.key, ())))
    return "\n".join(parts)


def _by_section() -> Iterator[Setting]:
    """All settings, those of a section together, sections in the order of the stages."""
    found = list(settings().values())
    order = dict.fromkeys([setting.key.partition(".")[0] for setting in found if "." in setting.key])
    stage_names = [stage.name for stage in stages()]
    sections = [name for name in order if name not in stage_names] + [name for name in stage_names if name in order]
    yield from (setting for setting in found if "." not in setting.key)
    for name in sections:
        yield from (setting for setting in found if setting.key.startswith(f"{name}."))


def _readers() -> dict[str, list[str]]:
    """The methods that a setting's value reaches, as `stage.method`, by the setting's key."""
    found: dict[str, list[str]] = {}
    for stage in stages():
        for name, method in stage.methods.items():
            for key in method.settings.keys(stage.name).values():
                found.setdefault(key, []).append(f"{stage.name}.{name}")
    own = {key for owner in RUN_SETTINGS for key in owner.keys("").values()}
    return {key: [] if key in own and len(readers) > 8 else readers for key, readers in found.items()}


def _entry(setting: Setting, presets: Mapping[str, Mapping[str, Any]], readers: list[str] | tuple[str, ...]) -> str:
    kind = str(setting.form).replace(f"{2**63 - 1:g}", "2^63 - 1")
    if type(None) in getattr(setting.annotation, "__args__", ()):
        kind += f", or {EMPTY}"
    facts = [f"{kind[0].upper()}{kind[1:]}", f"default {_shown(setting.default)}"]
    changed = [
        f"{name} {_shown(values[setting.key])}"
        for name, values in presets.items()
        if values[setting.key] != setting.default
    ]
    if changed:
        facts.append("presets: " + ", ".join(changed))
    if readers and not setting.key.endswith(".method"):
        facts.append("read by " + ", ".join(readers))
    return f"### {setting.key}\n\n{sentence(setting.help)}\n\n*{'; '.join(facts)}.*\n"


def _shown(value: Any) -> str:
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(str(inner) for inner in value)}]`"
    return f"`{value}`"
