"""What a terminal shows: a bar per stage on stderr, errors as text, results on stdout."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from kiss3d_cli.cli.streams import note as note
from kiss3d_cli.cli.streams import show as show
from kiss3d_cli.cli.streams import stop_signals, write_out
from kiss3d_cli.core.errors import Interrupted, Kiss3dError, OutputFailed, from_exception
from kiss3d_cli.core.printable import printable_json
from kiss3d_cli.core.shell import typed

P = ParamSpec("P")
R = TypeVar("R")


def handles_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into text on stderr and the contract's exit code; with `--json`, also into an object on stdout."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with stop_signals():
                return command(*args, **kwargs)
        except (Kiss3dError, OSError, MemoryError, KeyboardInterrupt, RuntimeError) as error:
            known = from_exception(error)
            if known is None or os.environ.get("KISS3D_DEBUG"):
                raise
            if not (isinstance(known, OutputFailed) and known.silent):
                show_error(known)
            if kwargs.get("json_output") and not isinstance(known, OutputFailed):
                with contextlib.suppress(OutputFailed):
                    print_json({"error": error_record(known)})
            raise typer.Exit(known.exit_code) from None

    return guarded


@contextlib.contextmanager
def going_on(how: str) -> Iterator[None]:
    """Within it a request to stop ends with its own advice, for what `kiss3d resume` doesn't go on with."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted(str(error) or "interrupted", hint=how) from None


def error_record(error: Kiss3dError) -> dict[str, Any]:
    return {"cause": error.cause, "place": error.place, "hint": error.hint, "exit_code": error.exit_code}


def show_error(error: Kiss3dError) -> None:
    note(f"kiss3d: {error}")
    if error.hint:
        note(f"  try: {error.hint}")


def print_json(value: Any) -> None:
    unicode = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not unicode, allow_nan=False, default=str)
    write_out(printable_json(text) + "\n")


def command_line() -> str:
    return typed("kiss3d", *sys.argv[1:])


def shown_path(path: Path) -> str:
    """A path as one would type it: relative where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive of Windows
        return str(path)
    return relative if len(relative) < len(str(path)) and not relative.startswith("..") else str(path)


class Bars:
    """A reporter with one bar per stage; silent but for messages when stderr is not a terminal."""

    def __init__(self, doing: dict[str, str], title: str = "") -> None:
        self._title = title
        self._doing = doing
        self._width = max(len(name) for name in doing)
        self._tty = sys.stderr.isatty()
        self._bar: Any = None
        self._stage = ""

    def stage_started(self, stage: str, method: str) -> None:
        self._stage = stage
        if not self._tty:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=100,
            desc=f"  {stage:<{self._width}} {self._title}".rstrip(),
            bar_format="{desc} {bar:24} {n:3.0f}% {elapsed} {postfix}",
            leave=False,
            file=sys.stderr,
        )
        self._bar.set_postfix_str(self._doing.get(stage, method))

    def stage_progress(self, stage: str, fraction: float, doing: str) -> None:
        if self._bar is not None and self._stage == stage:
            if doing:
                self._bar.set_postfix_str(doing, refresh=False)
            self._bar.n = round(100 * fraction)
            self._bar.refresh()

    def stage_ended(self, stage: str, status: str, seconds: float) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._tty and status not in ("off", "later"):
            named = f" {self._title}:" if self._title else ""
            note(f"  {stage:<{self._width}}{named} {status}{f' in {seconds:.1f} s' if seconds else ''}")

    def message(self, text: str) -> None:
        note(f"  note: {self._title}: {text}" if self._title else f"  note: {text}")
