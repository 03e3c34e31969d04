"""What the page shows of a run, as HTML; everything from files is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.image.views import VIEW_NAMES
from kiss3d_cli.pipeline.run_folder import RunFolder
from kiss3d_cli.pipeline.stages import stages
from kiss3d_cli.report.page import text
from kiss3d_cli.report.pictures import file_uri
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import RunView, own_file
from kiss3d_cli.serve.view import View

_PICTURES = (
    "preprocess/image_rgba.png",
    *(f"multiview/{name}.png" for name in VIEW_NAMES),
    "reference/reference_bundle.png",
    "bundle/bundle.png",
)
_SIDE = 200
SANDBOX = "allow-scripts allow-downloads"
"""What a report may do."""


def downloads(folder: RunFolder) -> list[str]:
    """The files of a run that can be fetched, beside its report."""
    refine = folder.folder("refine").name
    return [f"{refine}/mesh.{suffix}" for suffix in ("glb", "obj", "mtl", "png", "ply")]


def progress(view: View) -> str:
    """The stages of a run, each with its bar."""
    rows = []
    told = {str(entry["stage"]): entry for entry in view.stages}
    for stage in stages():
        entry = told.get(stage.name)
        status = "waiting" if entry is None else str(entry["status"])
        share = 0.0 if entry is None or status in ("off", "later") else float(entry["share"])
        words = "" if entry is None else entry["doing"] or (f"{entry['seconds']:.1f} s" if entry["seconds"] else "")
        bar = (
            f'<div class="bar" role="progressbar" aria-label="{text(stage.name)}" aria-valuenow="{100 * share:.0f}">'
            f'<div style="width: {100 * share:.0f}%"></div></div>'
        )
        rows.append(f"<tr><td>{text(stage.name)}</td><td>{bar}</td><td>{text(status)}</td><td>{text(words)}</td></tr>")
    state = view.ticket.state
    head = {"waiting": "Waiting for the runs before it", "running": "At work"}.get(state, state.capitalize())
    if view.stopping:
        head = "Stopping at the next safe point"
    error = view.ticket.error
    failed = "" if error is None or state != "failed" else problem(Kiss3dError(error["cause"], **_where(error)))
    return f'<p class="job-state">{text(head)}</p><table class="stages">{"".join(rows)}</table>{failed}'


def _where(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: error.get(name) for name in ("place", "hint")}


def pictures(run: RunView) -> str:
    """Thumbnails of what the finished stages made."""
    found = []
    for reference in _PICTURES:
        path = run.artifact(reference)
        try:
            if path is not None:
                found.append(f'<img src="{file_uri(path, 2 * _SIDE)}" alt="{text(reference)}" height="{_SIDE // 2}">')
        except (Kiss3dError, OSError):
            continue
    return f'<div class="made">{"".join(found)}</div>'


def result(run: RunView, version: str) -> str:
    """The run's report in a frame, and its files.

    Args:
        version: part of the address, so that a browser does not show an older report.
    """
    name = quote(run.folder.path.name)
    own = [path for path in downloads(run.folder) if own_file(run.folder.path, path) is not None]
    links = [f'<a href="/runs/{name}/{path}" download>{text(path.rpartition("/")[2])}</a>' for path in own]
    if own_file(run.folder.path, REPORT) is not None:
        links.append(f'<a href="/runs/{name}/{REPORT}" target="_blank" rel="noopener">the report alone</a>')
    body = f'<p class="files">{" ".join(links)}</p>' if links else ""
    if own_file(run.folder.path, REPORT) is not None:
        body += f'<iframe src="/runs/{name}/{REPORT}?{quote(version)}" sandbox="{SANDBOX}" title="The report"></iframe>'
    return body


def scores(name: str, truth: str, columns: Mapping[str, float | None]) -> str:
    """Args: name: of the run; truth: of the ground truth's file; columns: as of `measure.columns_of`."""
    rows = [
        f"<tr><td>{text(key.replace('_', ' '))}</td><td>{'-' if value is None else f'{value:.5g}'}</td></tr>"
        for key, value in columns.items()
    ]
    return f'<p>{text(name)} against {text(truth)}</p><table class="scores">{"".join(rows)}</table>'


def welcome(runs: int) -> str:
    """Instead of a run: what to do."""
    return "<p>Choose a run.</p>" if runs else "<p>There is no run yet. Drop a picture and make its mesh.</p>"


def elsewhere() -> str:
    return '<p class="job-state">Another process works on this run. Its report comes when that ends.</p>'


def problem(error: Exception) -> str:
    """Why a run can't be shown."""
    hint = getattr(error, "hint", None)
    return f'<p class="job-error"><b>{text(error)}</b>{f"<br>{text(hint)}" if hint else ""}</p>'


CSS = """
#state table, #numbers table { width: 100%; border-collapse: collapse; border: 0; }
#state tr, #numbers tr, #state td, #numbers td { border: 0; padding: 3px 10px 3px 0; }
#numbers table { width: auto; } #numbers td { font-variant-numeric: tabular-nums; }
.stages td { white-space: nowrap; } .stages td:nth-child(2) { width: 45%; }
.stages td:last-child { white-space: normal; min-width: 64px; }
.bar { height: 8px; border-radius: 4px; background: #8883; overflow: hidden; }
.bar div { height: 100%; background: #2f5fd0; }
.job-state { font-weight: 600; } .job-error { color: #b3261e; overflow-wrap: anywhere; }
.made { display: flex; flex-wrap: wrap; gap: 8px; } .made img { border-radius: 6px; background: #8882; }
#made:not(:has(img)), #result:not(:has(.files, iframe)) { display: none; }
.files a { margin-right: 12px; white-space: nowrap; }
iframe { width: 100%; height: 85vh; border: 1px solid #8884; border-radius: 8px; }
@media (max-width: 760px) {
  #result, #result * { overflow: visible; }
  iframe { width: 100vw; margin-left: calc(50% - 50vw); border-width: 1px 0; border-radius: 0; }
}
.dark .bar div { background: #86aaff; } .dark .job-error { color: #ff9d93; }
"""
