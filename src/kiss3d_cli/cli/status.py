"""`kiss3d status`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kiss3d_cli.cli.terminal import handles_errors, print_json, show

GIB = 2**30
BELOW_LIMITS = 7
"""Exit code of `--strict` for a mesh below the limits of its check; all other codes are those of the errors."""


@handles_errors
def status(
    run_dir: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what is done, stale, damaged or missing in a run."""
    from kiss3d_cli.pipeline.launch import mesh_of
    from kiss3d_cli.pipeline.run_folder import RunFolder
    from kiss3d_cli.pipeline.status import read_status

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


def check_line(check: Mapping[str, Any]) -> str:
    """The numbers of a check on one line."""
    told = [f"mask IoU {check['mask_iou']:.3f}"]
    if check.get("color_psnr") is not None:
        told.append(f"colours {check['color_psnr']:.1f} dB")
    if check.get("thin_kept") is not None:
        told.append(f"thin parts {check['thin_kept']:.0%} kept")
    if check.get("lost_parts"):
        told.append(f"missing: {', '.join(map(str, check['lost_parts']))}")
    told.append(f"{check['pieces']} of {check['mask_pieces']} pieces")
    told.append("watertight" if check["watertight"] else "not watertight")
    told.append(f"{check['self_intersections']} self-intersections")
    told.append(f"{check['ragged_edges']:.2f} ragged edges per 1,000")
    told.append(f"{check['faces']:,} faces")
    return f"front against the picture: {', '.join(told)}"


def _record(row: Any) -> dict[str, Any]:
    record = {"name": row.stage, **dataclasses.asdict(row)}
    del record["facts"]
    return record
