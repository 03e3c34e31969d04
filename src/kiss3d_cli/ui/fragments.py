"""What the page shows of a run, as HTML; everything from files is escaped."""

from __future__ import annotations

from urllib.parse import quote

from kiss3d_cli.core.errors import Kiss3dError
from kiss3d_cli.imaging.views import VIEW_NAMES
from kiss3d_cli.report.page import text
from kiss3d_cli.report.pictures import file_uri
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import RunView, own_file
from kiss3d_cli.stages import STAGES
from kiss3d_cli.ui.jobs import Job

_REFINE = next(stage.folder for stage in STAGES if stage.name == "refine")
DOWNLOADS = tuple(f"{_REFINE}/mesh.{suffix}" for suffix in ("glb", "obj", "mtl", "png", "ply"))
"""The files of a run that can be fetched, beside its report."""
_PICTURES = (
    "preprocess/image_rgba.png",
    *(f"multiview/{name}.png" for name in VIEW_NAMES),
    "reference/reference_bundle.png",
    "bundle/bundle.png",
)
_SIDE = 200


def progress(job: Job) -> str:
    """The stages of a job, each with its bar."""
    rows = []
    told = job.stages()
    for stage in STAGES:
        entry = told.get(stage.name)
        status = "waiting" if entry is None else entry.status
        share = 0.0 if entry is None else entry.share
        words = "" if entry is None else entry.doing or (f"{entry.seconds:.1f} s" if entry.seconds else "")
        bar = f'<progress max="1" value="{share:.3f}" aria-label="{text(stage.name)}"></progress>'
        rows.append(f"<tr><td>{text(stage.name)}</td><td>{bar}</td><td>{text(status)}</td><td>{text(words)}</td></tr>")
    head = {"waiting": "Waiting for the runs before it", "running": "At work"}.get(job.state, job.state.capitalize())
    if job.active and job.cancelled.is_set():
        head = "Stopping at the next safe point"
    return f'<p class="job-state">{text(head)}</p><table class="stages">{"".join(rows)}</table>{_error(job)}'


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
    own = [path for path in DOWNLOADS if own_file(run.folder.path, path) is not None]
    links = " ".join(f'<a href="/runs/{name}/{path}" download>{text(path.rpartition("/")[2])}</a>' for path in own)
    body = f'<p class="files">{links}</p>' if links else ""
    if own_file(run.folder.path, REPORT) is not None:
        body += (
            f'<iframe src="/runs/{name}/{REPORT}?{quote(version)}" sandbox="allow-scripts allow-downloads" '
            f'title="The report"></iframe>'
        )
    return body


def _error(job: Job) -> str:
    if job.error is None or job.state != "failed":
        return ""
    hint = f"<br>{text(job.error.hint)}" if job.error.hint else ""
    return f'<p class="job-error"><b>{text(job.error)}</b>{hint}</p>'


CSS = """
.stages td { border: 0 !important; } .stages progress { accent-color: #2f5fd0; height: 10px; }
.stages { width: 100%; border-collapse: collapse; } .stages td { padding: 3px 8px 3px 0; }
.stages progress { width: 100%; }
.stages td:nth-child(2) { width: 45%; } .job-state { font-weight: 600; } .job-error { color: #b3261e; }
.made { display: flex; flex-wrap: wrap; gap: 8px; } .made img { border-radius: 6px; background: #8882; }
iframe { width: 100%; height: 80vh; border: 1px solid #8884; border-radius: 8px; } .files a { margin-right: 12px; }
@media (prefers-color-scheme: dark) { .job-error { color: #ff9d93; } }
"""
