"""docs/reference/settings.md: every setting with its type, bounds and default, assembled as the configuration is."""

from __future__ import annotations

from typing import Any

from kiss3d_cli.methods.shared import RUN_SETTINGS
from kiss3d_cli.pipeline.config import Setting
from kiss3d_cli.pipeline.described import EMPTY, by_section, kind_of, preset_values, written
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


def page() -> str:
    read = _readers()
    parts = [INTRO]
    for section, found in by_section():
        parts.append(f"## {section}\n" if section else "## The run\n")
        parts += [_entry(setting, read.get(setting.key, ())) for setting in found]
    return "\n".join(parts)


def _readers() -> dict[str, list[str]]:
    """The methods that a setting's value reaches, as `stage.method`, by the setting's key."""
    found: dict[str, list[str]] = {}
    for stage in stages():
        for name, method in stage.methods.items():
            for key in method.settings.keys(stage.name).values():
                found.setdefault(key, []).append(f"{stage.name}.{name}")
    own = {key for owner in RUN_SETTINGS for key in owner.keys("").values()}
    return {key: [] if key in own and len(readers) > 8 else readers for key, readers in found.items()}


def _entry(setting: Setting, readers: list[str] | tuple[str, ...]) -> str:
    kind = kind_of(setting)
    facts = [f"{kind[0].upper()}{kind[1:]}", f"default {_shown(setting.default)}"]
    if changed := preset_values(setting):
        facts.append("presets: " + ", ".join(f"{name} {_shown(value)}" for name, value in changed.items()))
    if readers and not setting.key.endswith(".method"):
        facts.append("read by " + ", ".join(readers))
    return f"### {setting.key}\n\n{sentence(setting.help)}\n\n*{'; '.join(facts)}.*\n"


def _shown(value: Any) -> str:
    return EMPTY if value is None else f"`{written(value)}`"
