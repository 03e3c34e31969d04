"""One page for a folder of runs: what each shows, how it stands, what it took and how good it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.geometry.cameras import orbit_cameras
from kiss3d_cli.pipeline.measure import columns_of
from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs
from kiss3d_cli.report.drawings import draw_colors, draw_normals
from kiss3d_cli.report.page import page, section, text
from kiss3d_cli.report.pictures import file_uri, pixels_uri
from kiss3d_cli.report.run_report import REPORT, STATES
from kiss3d_cli.report.run_view import RunView, own_file, read_run
from kiss3d_cli.report.shape import read_shape

INDEX = "index.html"
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
    rows = []
    for number, run in enumerate(runs, 1):
        announce(f"{number} of {len(runs)}: {run.path.name}")
        rows.append(_row(run))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f'<th><button type="button">{text(name)}</button></th>' for name in columns)
    lines = []
    for row in rows:
        cells = (row.get(name, Cell("")) for name in columns)
        lines.append(
            "<tr>" + "".join(f'<td data-value="{text(cell.key)}">{cell.html}</td>' for cell in cells) + "</tr>"
        )
    table = (
        f'<div class="wide"><table class="runs sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    title = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} in {root.name}"
    body = f"<main><header><h1>{text(title)}</h1></header>{section('Runs', table)}</main>"
    return page(f"{title} - kiss3d", body)


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
    made = [stage.manifest for stage in run.stages if stage.manifest is not None]
    cells = {
        "picture": Cell(_picture(run)),
        "mesh": Cell(_mesh(run)),
        "run": Cell(linked, name),
        "status": Cell(f'<span class="badge {run.state}">{STATES[run.state]}</span>{_failure(run)}', STATES[run.state]),
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
    return "".join(f'<br><span class="soft">{text(failure.error)}</span>' for failure in run.failures)


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
