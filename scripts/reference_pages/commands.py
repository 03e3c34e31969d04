"""docs/reference/commands.md: every command with its arguments and options, read off the command line itself."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from kiss3d_cli.cli.app import app
from kiss3d_cli.pipeline.config import spelled
from reference_pages import sentence, table

INTRO = """# Commands

Every command has `--help`. Results go to standard output, messages to standard error.
The [exit codes](exit_codes.md) and the [JSON output](json.md) have pages of their own.
"""
_WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    yield from _below(get_command(app), "kiss3d")


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner in command.commands.values():
        yield from _below(inner, f"{name} {inner.name}")


def page() -> str:
    parts = [INTRO]
    for name, command in commands():
        parts.append(f"## {name}\n\n{sentence(command.help)}\n\n```\n{_usage(name, command)}\n```\n")
        arguments = [_argument(part) for part in command.params if part.param_type_name == "argument"]
        if arguments:
            parts.append(table(("argument", "meaning"), arguments) + "\n")
        options = [_option(part, command) for part in command.params if part.param_type_name == "option"]
        if options:
            parts.append(table(("option", "meaning", "default"), options) + "\n")
    return "\n".join(parts)


def _usage(name: str, command: Any) -> str:
    arguments = [_title(part) for part in command.params if part.param_type_name == "argument"]
    return " ".join([name, *arguments, "[OPTIONS]"])


def _title(part: Any) -> str:
    named = part.metavar or part.name.upper()
    if part.nargs == -1:
        return f"[{named}]..."
    return named if part.required or named.startswith("[") else f"[{named}]"


def _argument(part: Any) -> tuple[str, str]:
    return f"`{_title(part)}`", sentence(part.help or "")


def _option(part: Any, command: Any) -> tuple[str, str, str]:
    named = ", ".join(part.opts)
    if part.secondary_opts:
        named += " / " + ", ".join(part.secondary_opts)
    value = "" if part.is_flag else " " + (part.metavar or _value(part, command))
    bounds = _bounds(part)
    meaning = sentence(part.help or "") + (f" {bounds}" if bounds else "")
    return f"`{named}{value}`", meaning, _default(part)


def _value(part: Any, command: Any) -> str:
    kind = _kind(command, part.name)
    if typing.get_origin(kind) is tuple:
        return " ".join(_WORDS[inner] for inner in typing.get_args(kind))
    return _WORDS[kind]


def _kind(command: Any, name: str) -> Any:
    """The annotated type of a parameter, without None and without the list around a repeated option."""
    written = inspect.signature(command.callback).parameters[name].annotation
    if isinstance(written, str):
        written = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)[name]
    kind = typing.get_args(written)[0] if typing.get_origin(written) is typing.Annotated else written
    kinds = [inner for inner in typing.get_args(kind) if inner is not type(None)]
    if kinds and typing.get_origin(kind) not in (tuple, list):
        kind = kinds[0]
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind


def _bounds(part: Any) -> str:
    low, high = getattr(part, "min", None), getattr(part, "max", None)
    if low is None and high is None:
        return ""
    return f"From {spelled(low)} to {spelled(high)}." if high is not None else f"At least {spelled(low)}."


def _default(part: Any) -> str:
    if part.is_flag:
        return f"`{part.opts[0]}`" if part.secondary_opts and part.default else ""
    if part.default is None:
        return ""
    if isinstance(part.default, tuple | list):
        return f"`{' '.join(str(inner) for inner in part.default)}`"
    return f"`{part.default.as_posix() if isinstance(part.default, Path) else part.default}`"
