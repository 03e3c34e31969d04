"""Which run a command is about, and what is there where it is not said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kiss3d_cli.cli.terminal import shown_path
from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.core.shell import typed
from kiss3d_cli.core.words import counted

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.run_folder import RunFolder

OUTPUTS = Path("outputs")
_LISTED = 10
_LONGEST = 100


def runs_in(folder: Path) -> list[RunFolder]:
    """The runs of a folder that is no run itself, the newest first; empty for a run folder and for anything else."""
    from kiss3d_cli.pipeline.run_folder import RUN, find_runs

    return [] if (folder / RUN).exists() or not folder.is_dir() else find_runs(folder)


def newest_run(place: str) -> RunFolder:
    """The newest run in outputs/. Raises BadInput if there is none."""
    runs = runs_in(OUTPUTS)
    if not runs:
        raise BadInput("there is no run in outputs/", place=place, hint="kiss3d run image.png")
    return runs[0]


def one_run(folder: Path, command: str, *more: str) -> RunFolder:
    """The run of a folder. Raises BadInput that lists the runs if it is a folder of them."""
    from kiss3d_cli.pipeline.run_folder import RunFolder

    runs = runs_in(folder)
    if not runs:
        return RunFolder(folder)
    lines = [*(f"  {line}" for line in told(runs[:_LISTED])), *(["  ..."] if len(runs) > _LISTED else [])]
    what = counted(len(runs), "run") + (", the newest first" if len(runs) > 1 else "")
    raise BadInput(
        f"this is not a run folder; it holds {what}:\n" + "\n".join(lines),
        place=str(folder),
        hint=typed("kiss3d", command, shown_path(runs[0].path), *more),
    )


def told(runs: list[RunFolder]) -> Iterator[str]:
    """A line for each run: its folder, preset and state, and why it failed."""
    width = max(len(run.path.name) for run in runs)
    for run in runs:
        record = record_of(run)
        why = f"  {record['reason']}" if record["reason"] else ""
        yield f"{run.path.name:<{width}}  {record['preset'] or '-':<8} {record['state']}{why}"


def record_of(run: RunFolder) -> dict[str, str | None]:
    """What a list of runs says of one; a run that can't be read has a state of its own."""
    from kiss3d_cli.pipeline.launch import mesh_of
    from kiss3d_cli.report.run_view import STATES, read_run

    found: dict[str, str | None] = {"run_dir": str(run.path.resolve()), "preset": None, "mesh": None}
    try:
        view = read_run(run)
    except Kiss3dError as error:
        return {**found, "state": "unreadable", "reason": _short(error.cause)}
    failures = [f"{one.stage}: {one.error.removeprefix(f'stage {one.stage}: ')}" for one in view.failures]
    mesh = mesh_of(run)
    return {
        **found,
        "preset": view.record.preset,
        "mesh": None if mesh is None else str(mesh.resolve()),
        "state": STATES[view.state],
        "reason": _short(failures[0]) if failures and view.state == "failed" else "",
    }


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
