"""One page for a folder of runs: what each shows, how it stands, what it took and how good it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.core.files import read_bytes, write_durably
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.core.words import counted
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.pipeline.many_runs import REPORTS
from kiss3d_cli.pipeline.measure import columns_of
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs
from kiss3d_cli.report.drawings import draw_colors, draw_normals
from kiss3d_cli.report.page import page, section, text
from kiss3d_cli.report.pictures import file_uri, pixels_uri
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import STATES, RunView, own_file, read_run
from kiss3d_cli.report.shape import read_shape

INDEX = "index.html"
MESHES = ("mesh.glb", "mesh.obj", "mesh.ply")
_LARGEST = 64 * 2**20
"""Bytes of what a thousand runs are told in."""
_THUMBNAIL = 144
_AZIMUTH, _ELEVATION = 25.0, 10.0
_GIB = 2**30


@dataclass(frozen=True)
class Cell:
    """One cell: HTML, and what it sorts by; an empty `key` comes last."""

    html: str
    key: str = ""


def write_runs_report(parent: Path, announce: Callable[[str], None] = lambda _text: None) -> Path:
    """Write index.html beside the run folders, as a whole.

    Args:
        parent: a folder of run folders.
        announce: told before each run.

    Raises:
        BadInput: there are no runs.
        OSError: it can't be written.
    """
    path = parent / INDEX
    write_durably(path, runs_report(parent, announce).encode())
    return path


def is_newer(parent: Path, runs: Sequence[RunFolder]) -> bool:
    """Whether the page was written after every run's report, each of which is written when its run ends."""
    try:
        written = (parent / INDEX).lstat().st_mtime_ns
        return all((run.path / REPORT).lstat().st_mtime_ns < written for run in runs)
    except OSError:
        return False


def runs_report(parent: Path, announce: Callable[[str], None] = lambda _text: None) -> str:
    """The page. A run that can't be read has a row that says so.

    Raises:
        BadInput: there are no runs.
    """
    root = parent.resolve()
    runs = [run for run in find_runs(parent) if run.path.resolve().parent == root]  # no links that lead elsewhere
    if not runs:
        raise BadInput(
            "this is neither a run folder nor a folder of runs", place=str(parent), hint="kiss3d report outputs"
        )
    jobs = _jobs(parent)
    place = {Path(str(job.get("run_dir"))).name: number for number, job in reversed([*enumerate(jobs)])}
    rows = []
    for number, run in enumerate(runs, 1):
        announce(f"{number} of {len(runs)}: {run.path.name}")
        rows.append((place.get(run.path.name, len(jobs)), _row(run)))
    names = {run.path.name for run in runs}
    for number, job in enumerate(jobs):
        if job["status"] == "same" or Path(str(job.get("run_dir"))).name not in names:
            rows.append((number, _row_without_folder(job)))
    rows.sort(key=lambda row: row[0])
    title = f"{counted(len(rows), 'run')} in {root.name}"
    header = f'<header><h1>{text(title)}</h1><span class="meta">{text(_counts(rows))}</span></header>'
    body = f"<main>{header}{section('Runs', _table([cells for _, cells in rows]))}</main>"
    return page(f"{title} - kiss3d", body)


def _table(rows: Sequence[Mapping[str, Cell]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f'<th><button type="button">{text(name)}</button></th>' for name in columns)
    lines = []
    for row in rows:
        cells = (row.get(name, Cell("")) for name in columns)
        lines.append(
            "<tr>" + "".join(f'<td data-value="{text(cell.key)}">{cell.html}</td>' for cell in cells) + "</tr>"
        )
    return (
        f'<div class="wide"><table class="runs sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _counts(rows: Sequence[tuple[int, Mapping[str, Cell]]]) -> str:
    counts = Counter(row["status"].key for _, row in rows)
    return " · ".join(f"{count} {state}" for state, count in counts.most_common())


def _jobs(parent: Path) -> list[dict[str, Any]]:
    """What the last `kiss3d run` of many pictures said of each, in their order; empty where there was none."""
    try:
        told = parse_json(read_bytes(parent / REPORTS, _LARGEST, within=parent))
    except (OSError, BadRecord):
        return []
    found = told.get("runs") if isinstance(told, dict) else None
    jobs = found if isinstance(found, list) else []
    return [job for job in jobs if isinstance(job, dict) and {"name", "status"} <= job.keys()]


def _row_without_folder(job: Mapping[str, Any]) -> dict[str, Cell]:
    """A picture that no run could be made of, or that shows what another one does."""
    name, status = str(job["name"]), str(job["status"])
    state, words = ("done", [job.get("notes")]) if status == "same" else ("failed", [job.get("error"), job.get("hint")])
    told = f'<span class="badge {state}">{text(status)}</span>' + "".join(f"<p>{text(one)}</p>" for one in words if one)
    return {"picture": Cell(""), "mesh": Cell(""), "run": Cell(text(name), name), "status": Cell(told, status)}


def _row(folder: RunFolder) -> dict[str, Cell]:
    """The cells by their column; metrics only where there are any."""
    name = folder.path.name
    try:
        run = read_run(folder)
    except Kiss3dError as error:
        broken = f'<span class="badge damaged">unreadable</span> {text(error.cause)}'
        return {
            "picture": Cell(""),
            "mesh": Cell(""),
            "run": Cell(text(name), name),
            "status": Cell(broken, "unreadable"),
        }
    linked = text(name)
    if own_file(folder.path, REPORT) is not None:
        linked = f'<a href="{quote(name)}/{REPORT}">{linked}</a>'
    linked += _files(run)
    made = [stage.manifest for stage in run.stages if stage.manifest is not None]
    cells = {
        "picture": Cell(_picture(run)),
        "mesh": Cell(_mesh(run)),
        "run": Cell(linked, name),
        "status": Cell(
            f'<span class="badge {run.state}">{STATES[run.state]}</span>{_failure(run)}{_warnings(run)}',
            STATES[run.state],
        ),
        "preset": Cell(text(run.record.preset), run.record.preset),
        "started": Cell(text(run.record.created[:16].replace("T", " ")), run.record.created),
        "time": _number(run.seconds, f"{run.seconds:.1f} s"),
    }
    if made:
        ram = max(manifest.peak_rss_bytes for manifest in made) / _GIB
        cells["RAM"] = _number(ram, f"{ram:.2f} GiB")
    video = [manifest.peak_vram_bytes for manifest in made if manifest.peak_vram_bytes is not None]
    if video:
        cells["video memory"] = _number(max(video) / _GIB, f"{max(video) / _GIB:.2f} GiB")
    check = _check(run)
    if check is not None:
        cells["front match"] = check
    for metric, value in _metrics(run).items():
        cells[metric.replace("_", " ")] = _number(value, f"{value:.4f}")
    return cells


def _number(value: float, shown: str) -> Cell:
    return Cell(f'<span class="number">{text(shown)}</span>', repr(float(value)))


def _metrics(run: RunView) -> dict[str, float]:
    try:
        found = columns_of(run.json("eval/metrics.json"))
    except (KeyError, TypeError, ValueError):
        return {}
    wanted = {name: value for name, value in found.items() if not name.startswith(("hausdorff", "chamfer_l2"))}
    return {name: value for name, value in wanted.items() if isinstance(value, int | float)}


def _failure(run: RunView) -> str:
    return "".join(
        f"<p>{text(failure.stage)}: {text(failure.error.removeprefix(f'stage {failure.stage}: '))}</p>"
        for failure in run.failures
    )


def _warnings(run: RunView) -> str:
    found = [f"{stage.status.stage}: {warning}" for stage in run.stages for warning in stage.status.warnings]
    if not found:
        return ""
    items = "".join(f"<li>{text(line)}</li>" for line in found)
    return f"<details><summary>{counted(len(found), 'warning')}</summary><ul>{items}</ul></details>"


def _files(run: RunView) -> str:
    """Links to the result, in the frame of the mesh that the run started from if any."""
    for stage in ("place", "refine"):
        names = [name for name in MESHES if run.artifact(f"{stage}/{name}") is not None]
        if names:
            folder = f"{quote(run.folder.path.name)}/{run.folder.folder(stage).name}"
            links = [f'<a href="{folder}/{name}">{Path(name).suffix[1:].upper()}</a>' for name in names]
            return f"<p>{' · '.join(links)}</p>"
    return ""


def _check(run: RunView) -> Cell | None:
    """How well the mesh's front covers the object in its picture, and whether that is as it should be."""
    manifest = run.stage("check").manifest
    found = None if manifest is None else manifest.facts.get("check")
    if not isinstance(found, dict) or not isinstance(iou := found.get("mask_iou"), int | float):
        return None
    kind, words = ("done", "like its picture") if found.get("within_limits") else ("stale", "differs")
    return Cell(f'<span class="number">{iou:.0%}</span><br><span class="{kind}">{words}</span>', repr(float(iou)))


def _picture(run: RunView) -> str:
    path = run.artifact("preprocess/image_rgba.png") or run.input("picture") or run.artifact("bundle/bundle.png")
    try:
        return "" if path is None else _image(file_uri(path, _THUMBNAIL), "the picture")
    except (Kiss3dError, OSError):
        return ""


def _mesh(run: RunView) -> str:
    camera = orbit_cameras([_AZIMUTH], _ELEVATION, run.record.config["camera.radius"])
    try:
        shape = read_shape(run)
        if shape is None:
            return ""
        drawn = draw_colors(shape, camera, _THUMBNAIL)
        if drawn is None:
            drawn = draw_normals(shape.mesh, camera, _THUMBNAIL)
        return _image(pixels_uri(drawn[0], _THUMBNAIL), shape.title)
    except (Kiss3dError, OSError):
        return ""


def _image(uri: str, name: str) -> str:
    return f'<img src="{uri}" alt="{text(name)}">'
