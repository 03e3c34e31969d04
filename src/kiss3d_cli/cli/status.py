"""`kiss3d status`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiss3d_cli.cli.runs_there import newest_run, record_of, runs_in, told
from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path
from kiss3d_cli.core.shell import typed
from kiss3d_cli.core.words import counted

if TYPE_CHECKING:
    from kiss3d_cli.pipeline.run_folder import RunFolder

GIB = 2**30
BELOW_LIMITS = 7
"""Exit code of `--strict` for a mesh below the limits of its check; all other codes are those of the errors."""


@handles_errors
def status(
    run_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_DIR", help="A run folder, or a folder of runs; outputs/ by default.", show_default=False
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what is done, stale, damaged or missing in a run, or list the runs of a folder."""
    from kiss3d_cli.pipeline.launch import mesh_of
    from kiss3d_cli.pipeline.run_folder import RunFolder
    from kiss3d_cli.pipeline.status import read_status

    if run_dir is None:
        run_dir = newest_run("RUN_DIR").path.parent
    if runs := runs_in(run_dir):
        _list(run_dir, runs, json_output)
        return
    folder = RunFolder(run_dir)
    found = read_status(folder)
    if json_output:
        mesh = mesh_of(folder)
        print_json(
            {
                "run_dir": str(run_dir.resolve()),
                "mesh": None if mesh is None else str(mesh.resolve()),
                "preset": found.preset,
                "check": found.check,
                "stages": [_record(row) for row in found.rows],
            }
        )
        return
    show(f"{found.name}, preset {found.preset}")
    for row in found.rows:
        seconds = "" if row.seconds is None else f"{row.seconds:7.1f} s"
        memory = "" if row.peak_rss_bytes is None else f"{row.peak_rss_bytes / GIB:5.2f} GiB"
        video = "" if row.peak_vram_bytes is None else f"{row.peak_vram_bytes / GIB:5.2f} GiB video"
        line = f"  {row.stage:<12} {row.method:<12} {row.status:<8} {seconds:>9} {memory:>9} {video} {row.reason}"
        show(line.rstrip())
        for warning in row.warnings:
            show(f"      note: {warning}")
    if found.check is not None:
        show(check_line(found.check))
    if any(row.status not in ("done", "off") for row in found.rows):
        note(f"to continue: {typed('kiss3d', 'resume', shown_path(run_dir))}")


def _list(parent: Path, runs: list[RunFolder], json_output: bool) -> None:
    if json_output:
        print_json({"folder": str(parent.resolve()), "runs": [record_of(run) for run in runs]})
        return
    show(f"{counted(len(runs), 'run')} in {shown_path(parent)}{', the newest first' if len(runs) > 1 else ''}")
    for line in told(runs):
        show(f"  {line}")


def check_line(check: Mapping[str, Any]) -> str:
    """The numbers of a check on one line, with the verdict; a number out of its limit with the limit."""
    limits = check.get("limits") or {}

    def wanted(key: str, form: str, at_most: bool = False) -> str:
        limit, value = limits.get(key), check[key]
        if limit is None or (value <= limit if at_most else value >= limit):
            return ""
        return f" ({'at most' if at_most else 'at least'} {format(limit, form)} wanted)"

    told = [f"mask IoU {check['mask_iou']:.3f}{wanted('mask_iou', 'g')}"]
    if check.get("color_psnr") is not None:
        told.append(f"colours {check['color_psnr']:.1f} dB{wanted('color_psnr', 'g')}")
    if check.get("thin_kept") is not None:
        told.append(f"thin parts {check['thin_kept']:.0%} kept{wanted('thin_kept', '.0%')}")
    if check.get("lost_parts"):
        told.append(f"missing: {', '.join(map(str, check['lost_parts']))}")
    told.append(f"{check['pieces']} of {counted(check['mask_pieces'], 'piece')}")
    told.append("watertight" if check["watertight"] else "not watertight")
    told.append(counted(check["self_intersections"], "self-intersection"))
    told.append(f"{check['ragged_edges']:.2f} ragged edges per 1,000{wanted('ragged_edges', 'g', at_most=True)}")
    told.append(counted(check["faces"], "face"))
    verdict = {True: "passed", False: "below its limits"}.get(check.get("within_limits"))  # type: ignore[arg-type]
    return f"check{f' {verdict}' if verdict else ''}, front against the picture: {', '.join(told)}"


def _record(row: Any) -> dict[str, Any]:
    record = {"name": row.stage, **dataclasses.asdict(row)}
    del record["facts"]
    return record
