"""The command group, with typer's own usage errors made safe to print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from kiss3d_cli.core.printable import printable


class HarmlessGroup(TyperGroup):
    """Typer's messages repeat what was typed or pasted: options, commands and values that may hold escape sequences."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _harmless_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _harmless_errors():
            return super().invoke(ctx)


@contextmanager
def _harmless_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Wrong usage is of a class that typer keeps to itself; it is the one with a message that is formatted later.
        if hasattr(error, "format_message") and isinstance(getattr(error, "message", None), str):
            error.message = printable(error.message)  # type: ignore[attr-defined]
        raise
