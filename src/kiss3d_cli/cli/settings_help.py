"""`kiss3d run --help-settings`."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

import typer

from kiss3d_cli.cli.streams import show

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.config import Setting

_NARROWEST, _WIDEST = 60, 100


def help_settings(asked: bool) -> bool:
    """Print every setting with its default, its sentence, what it accepts and what presets give it, and exit."""
    if asked:
        from kiss3d_cli.pipeline.described import by_section

        width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
        show("Settings with their defaults. Change them with --set KEY=VALUE or --config FILE.")
        for _section, settings in by_section():
            show()
            for setting in settings:
                show("\n".join(_entry(setting, width)))
        raise typer.Exit
    return asked


def _entry(setting: Setting, width: int) -> list[str]:
    from kiss3d_cli.pipeline.described import EMPTY, kind_of, preset_values, written

    indent = " " * 4
    kind = kind_of(setting)
    facts = f"{kind[0].upper()}{kind[1:]}."
    if changed := preset_values(setting):
        given = ", ".join(f"{name} {written(value) or EMPTY}" for name, value in changed.items())
        facts += f" Presets: {given}."
    folded = (
        textwrap.wrap(
            part,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in (setting.help, facts)
    )
    return [f"{setting.key}={written(setting.default)}", *(line for lines in folded for line in lines)]
