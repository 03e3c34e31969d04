"""`--views front=a.png right=b.png ... --normals ...`: options that take a file for each view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from kiss3d_cli.cli.spread import with_address
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.pipeline.inputs import Given
from kiss3d_cli.pipeline.joined_views import NORMALS, VIEWS, joined_views

METAVAR = "VIEW=PNG ..."


class ViewsCommand(TyperCommand):
    """A command whose `--views` and `--normals` take several values, up to the next option, and `--ray` one or none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeated(with_address(args)))


def repeated(args: Sequence[str]) -> list[str]:
    """The same arguments with each further value of `--views` and `--normals` under an option of its own."""
    found: list[str] = []
    option = None  # whose values these may be
    for index, word in enumerate(args):
        if word == "--":
            return [*found, *args[index:]]
        name = word.partition("=")[0]
        if name in (VIEWS, NORMALS):
            option = name
        elif word.startswith("-") and len(word) > 1:
            option = None
        elif option is not None and found[-1] != option:
            if "=" in word:
                found.append(option)
            else:
                option = None
        found.append(word)
    return found


@contextmanager
def bundle_of_views(views: Sequence[str], normals: Sequence[str]) -> Iterator[dict[str, Given]]:
    """The input that the two options stand for; none if neither was given."""
    if not views and not normals:
        yield {}
        return
    if not views:
        raise BadInput("there are normals and no views", place=NORMALS, hint=f"give both {VIEWS} and {NORMALS}")
    with joined_views(_files(views, VIEWS), _files(normals, NORMALS)) as joined:
        yield {"bundle": joined}


def _files(values: Sequence[str], option: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not path:
            raise BadInput(f"'{value}' is not VIEW=FILE", place=option, hint=f"{option} front=a.png right=b.png ...")
        if name in files:
            raise BadInput(f"'{name}' is given twice", place=option, hint="give each view once")
        files[name] = Path(path)
    return files
