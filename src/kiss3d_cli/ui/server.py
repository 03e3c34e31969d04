"""The page: Gradio's controls over `Jobs`, and two routes of our own that hand out a run's report and mesh."""

from __future__ import annotations

import functools
import importlib.util
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiss3d_cli.core.config import PRESETS
from kiss3d_cli.core.errors import BadInput, Kiss3dError, Missing
from kiss3d_cli.geometry.load import SUFFIXES as MESH_SUFFIXES
from kiss3d_cli.pipeline.launch import Request, mesh_of
from kiss3d_cli.pipeline.measure import MeasureOptions, columns_of, measure_pair, record_of
from kiss3d_cli.report.page import text
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import own_file, read_run
from kiss3d_cli.ui import fragments
from kiss3d_cli.ui.jobs import Jobs

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
LARGEST_UPLOAD = 200 * 2**20
"""Bytes."""
_LOCAL = ("127.0.0.1", "localhost", "::1")
_TICK = 0.7
"""Seconds between two looks at a job."""


def check_gradio() -> None:
    """Raises Missing without the extra `ui`."""
    if importlib.util.find_spec("gradio") is None or importlib.util.find_spec("uvicorn") is None:
        raise Missing(
            "the page needs Gradio, which is not installed", place="kiss3d ui", hint="pip install 'kiss3d[ui]'"
        )


def serve(outputs: Path, host: str, port: int, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until interrupted; then stop what is at work at its next safe point.

    Args:
        outputs: the folder of runs.
        listening: told when the page is about to be there.

    Raises:
        BadInput: it can't listen there.
        Missing: Gradio is not installed.
    """
    check_gradio()
    import uvicorn

    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        place, hint = f"{host}:{port}", "choose another --port, or --host 127.0.0.1"
        raise BadInput(f"the page can't listen there ({error.strerror})", place=place, hint=hint) from None
    jobs = Jobs(outputs)
    try:
        app = make_app(jobs, host)
        listening()
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        jobs.stop()


def make_app(jobs: Jobs, host: str = "127.0.0.1") -> Any:
    """The whole application, for uvicorn.

    Args:
        host: where it is bound; on this machine alone, requests under any other host's name are refused.

    Raises:
        Missing: Gradio is not installed.
    """
    check_gradio()
    import gradio
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    jobs.outputs.mkdir(parents=True, exist_ok=True)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in _LOCAL:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])

    def file(name: str, path: str) -> Any:
        """The report and the mesh of a run of the outputs folder; nothing else is readable."""
        if name not in jobs.names() or path not in (REPORT, *fragments.DOWNLOADS):
            raise HTTPException(404)
        found = own_file(jobs.outputs / name, path)
        if found is None:
            raise HTTPException(404)
        return FileResponse(found, headers={"X-Content-Type-Options": "nosniff"})

    app.add_api_route("/runs/{name}/{path:path}", file, methods=["GET"], response_model=None)
    return gradio.mount_gradio_app(
        app,
        _blocks(jobs),
        path="/",
        allowed_paths=[],
        max_file_size=LARGEST_UPLOAD,
        show_error=True,
        ssr_mode=False,
        footer_links=[],
        css=fragments.CSS,
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


def _blocks(jobs: Jobs) -> Any:
    import gradio

    with gradio.Blocks(title="kiss3d", analytics_enabled=False, fill_width=True) as blocks:
        gradio.Markdown("# kiss3d\nOne picture in, a textured 3D mesh out.")
        shown = gradio.State("")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                picture = gradio.Image(
                    label="Picture",
                    type="filepath",
                    image_mode=None,  # the file as it is: a stage reads it, not Gradio
                    sources=["upload", "clipboard"],
                    buttons=[],
                    elem_id="picture",
                )
                preset = gradio.Dropdown(["auto", *PRESETS], value="auto", label="Preset", elem_id="preset")
                seed = gradio.Number(42, precision=0, minimum=0, label="Seed")
                faces = gradio.Number(50_000, precision=0, minimum=100, label="Faces of the mesh, at most")
                truth = gradio.File(label="Ground truth mesh (may be left out)", file_types=list(MESH_SUFFIXES))
                with gradio.Accordion("More settings", open=False):
                    more = gradio.Textbox(
                        label="KEY=VALUE, one a line", placeholder="refine.steps=80", lines=4, elem_id="more"
                    )
                start = gradio.Button("Make the mesh", variant="primary", elem_id="start")
            with gradio.Column(scale=3, min_width=300):
                with gradio.Row():
                    run = gradio.Dropdown([], label="Run", scale=4, elem_id="run")
                    cancel = gradio.Button("Cancel", elem_id="cancel", min_width=80)
                    resume = gradio.Button("Resume", elem_id="resume", min_width=80)
                state = gradio.HTML(elem_id="state")
                made = gradio.HTML(elem_id="made")
                result = gradio.HTML(elem_id="result")
                with gradio.Accordion("Measure against a mesh", open=False):
                    other = gradio.File(label="Ground truth", file_types=list(MESH_SUFFIXES))
                    aligned = gradio.Dropdown(
                        ["none", "yaw", "rigid", "similarity"], value="similarity", label="Alignment"
                    )
                    measure = gradio.Button("Measure")
                    numbers = gradio.HTML()
        timer = gradio.Timer(_TICK)

        def begin(picture: str, preset: str, seed: float, faces: float, truth: str | None, more: str) -> Any:
            settings = [f"refine.target_faces={int(faces)}", *(line.strip() for line in more.splitlines())]
            request = Request(
                picture=_uploaded(picture, PICTURE_SUFFIXES, "a picture"),
                ground_truth=None if truth is None else _uploaded(truth, MESH_SUFFIXES, "a mesh"),
                preset=preset,
                seed=int(seed),
                settings=tuple(line for line in settings if line),
                command="kiss3d ui",
            )
            job = jobs.start(request)
            return gradio.Dropdown(choices=jobs.names(), value=job.folder.path.name), ""

        def look(name: str | None, known: str) -> Any:
            """What changed since the last look; nothing is sent if nothing did."""
            now = _version(jobs, name)
            if now == known:
                return gradio.skip(), gradio.skip(), gradio.skip(), gradio.skip()
            if not name:
                return now, "", "", ""
            job = jobs.job(name)
            view = read_run(jobs.find(name))
            if job is not None and job.active:
                return now, fragments.progress(job), fragments.pictures(view), ""
            return now, "" if job is None else fragments.progress(job), "", fragments.result(view, now)

        def go_on(name: str | None) -> str:
            if name:
                jobs.resume(name, f"kiss3d resume {shlex.quote(name)}")
            return ""

        def compare(name: str | None, path: str | None, alignment: str) -> str:
            mesh = mesh_of(jobs.find(name or ""))
            if mesh is None:
                raise BadInput("this run has no mesh yet", hint="resume it")
            given = _uploaded(path, MESH_SUFFIXES, "a mesh")
            found = record_of(measure_pair(mesh, given, MeasureOptions(alignment=alignment)), mesh, given)
            rows = [(key, "" if value is None else f"{value:.5g}") for key, value in columns_of(found).items()]
            return "<table>" + "".join(f"<tr><td>{text(k)}</td><td>{v}</td></tr>" for k, v in rows) + "</table>"

        def list_runs(name: str | None) -> Any:
            """After a reload: the run at work, or the newest one."""
            names = jobs.names()
            active = [entry for entry in names if (job := jobs.job(entry)) is not None and job.active]
            chosen = name if name in names else next(iter([*active[-1:], *names]), None)
            return gradio.Dropdown(choices=names, value=chosen), ""

        looks = {"fn": _told(look), "inputs": [run, shown], "outputs": [shown, state, made, result]}
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        private = {"api_visibility": "private"}
        start.click(_told(begin), [picture, preset, seed, faces, truth, more], [run, shown], **private)
        cancel.click(_told(lambda name: jobs.cancel(name or "")), [run], None, **quiet)
        resume.click(_told(go_on), [run], [shown], **quiet)
        measure.click(_told(compare), [run, other, aligned], [numbers], concurrency_limit=1, **private)
        blocks.load(_told(list_runs), [run], [run, shown], **quiet)
        timer.tick(**looks, **quiet, trigger_mode="once")
    return blocks


def _version(jobs: Jobs, name: str | None) -> str:
    """Changes whenever there is something new to see of a run."""
    if not name:
        return "none"
    job = jobs.job(name)
    page = jobs.outputs / name / REPORT
    stamp = page.stat().st_mtime_ns if page.is_file() else 0
    told = "" if job is None else f"{job.state}-{job.version}-{job.cancelled.is_set()}-{id(job)}"
    return f"{name}-{stamp}-{told}"


def _uploaded(path: str | None, suffixes: tuple[str, ...], what: str) -> Path:
    if not path:
        raise BadInput(f"no file was given; it takes {what}", hint="drop one on the page")
    if Path(path).suffix.lower() not in suffixes:
        raise BadInput(f"this is not {what}", place=Path(path).name, hint=f"give {', '.join(suffixes)}")
    return Path(path)


def _told(handler: Any) -> Any:
    """Errors of ours become messages of the page."""
    import gradio

    @functools.wraps(handler)
    def guarded(*values: Any) -> Any:
        try:
            return handler(*values)
        except (Kiss3dError, OSError) as error:
            hint = getattr(error, "hint", None)
            raise gradio.Error(text(f"{error}{f' - {hint}' if hint else ''}"), print_exception=False) from None

    return guarded
