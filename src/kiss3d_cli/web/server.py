"""The page: Gradio's controls over the service, beside the service's own routes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import logging
import os
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, Missing, from_exception
from kiss3d_cli.geometry.io.load import SUFFIXES as MESH_SUFFIXES
from kiss3d_cli.pipeline.config import presets
from kiss3d_cli.pipeline.inputs import given
from kiss3d_cli.pipeline.jobs import PICTURE_SUFFIXES
from kiss3d_cli.pipeline.launch import Request, mesh_of
from kiss3d_cli.pipeline.lock import is_locked
from kiss3d_cli.pipeline.measure import MeasureOptions, columns_of, measure_pair, record_of
from kiss3d_cli.pipeline.run_folder import LOG
from kiss3d_cli.report.page import text
from kiss3d_cli.report.run_report import REPORT
from kiss3d_cli.report.run_view import own_file, read_run
from kiss3d_cli.serve.app import Intake, Options, add_errors
from kiss3d_cli.serve.guard import LOCAL, Guard
from kiss3d_cli.web import fragments
from kiss3d_cli.web.guard import OwnPages
from kiss3d_cli.web.jobs import Jobs

LARGEST_UPLOAD = 200 * 2**20
"""Bytes."""
_UPLOADED = re.compile(r"\S*/[0-9a-f]{64}/")
"""Where Gradio puts a file; whoever dropped it knows it by its name."""
_TICK = 0.7
"""Seconds between two looks at a job."""


def check_gradio() -> None:
    """Raises Missing without the extra `ui`."""
    if importlib.util.find_spec("gradio") is None or importlib.util.find_spec("uvicorn") is None:
        raise Missing(
            "the page needs Gradio, which is not installed", place="kiss3d ui", hint="pip install 'kiss3d[ui]'"
        )


def serve(jobs: Jobs, host: str, port: int, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until interrupted. What is at work then is taken up by the next service on this folder.

    Args:
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
    except (OSError, ValueError) as error:  # ValueError: a name of a host that can be none, as one of 70 letters
        place, hint = f"{host[:80]}:{port}", "choose another --port, or --host 127.0.0.1"
        reason = getattr(error, "strerror", None) or "this is no name of a host"
        raise BadInput(f"the page can't listen there ({reason})", place=place, hint=hint) from None

    class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is Any where it is not installed
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Every open page holds a connection, and uvicorn logs each that it has to cut with a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            await super().shutdown(sockets)

    with tempfile.TemporaryDirectory(prefix="kiss3d-ui-", ignore_cleanup_errors=True) as uploads:
        app = make_app(jobs, Path(uploads), host)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1)
        listening()
        with contextlib.suppress(KeyboardInterrupt, Interrupted):  # uvicorn raises its signal again when it is done
            Server(config).run()


def make_app(jobs: Jobs, uploads: Path, host: str = "127.0.0.1") -> Any:
    """The whole application, for uvicorn.

    Args:
        uploads: a folder of its own for what is dropped on the page; Gradio hands out all that is in it.
        host: where it is bound; on this machine alone, requests under any other host's name are refused.

    Raises:
        Missing: Gradio is not installed.
    """
    check_gradio()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.resolve())  # else one that all its programs share
    import gradio
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from kiss3d_cli.serve import v1

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        jobs.service.start()
        yield
        jobs.service.close()

    app = FastAPI(title="kiss3d", docs_url=None, redoc_url=None, lifespan=lifespan)
    blocks = _blocks(jobs)
    handlers = {number: len(handler.inputs) for number, handler in blocks.fns.items() if number is not None}
    local = host in LOCAL
    # without a token programs of other machines get the page, which is made for people, and no more
    app.add_middleware(OwnPages, handlers=handlers, routes=local)
    hosts = ("127.0.0.1", "localhost", "[::1]") if local else ()
    app.add_middleware(Guard, tokens=(), hosts=hosts, largest_body=2 * LARGEST_UPLOAD, rate=0)
    if local:
        routes = v1.routes(Intake(jobs.service, Options(largest_body=LARGEST_UPLOAD)))
        app.include_router(routes)
        add_errors(app, routes.routes)

    def file(name: str, path: str) -> Any:
        """The report and the mesh of a run of the outputs folder; nothing else is readable."""
        if name not in jobs.names() or path not in (REPORT, *fragments.downloads(jobs.find(name))):
            raise HTTPException(404)
        found = own_file(jobs.outputs / name, path)
        if found is None:
            raise HTTPException(404)
        # a report may come from elsewhere with its run: it is shown, and has no say over this page
        policy = {"Content-Security-Policy": f"sandbox {fragments.SANDBOX}", "X-Content-Type-Options": "nosniff"}
        return FileResponse(found, headers=policy)

    app.add_api_route("/runs/{name}/{path:path}", file, methods=["GET"], response_model=None)
    return gradio.mount_gradio_app(
        app,
        blocks,
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

    with gradio.Blocks(title="kiss3d", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as blocks:
        gradio.Markdown("# kiss3d\nOne picture in, a textured 3D mesh out.")
        shown = gradio.State(_Shown())
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                picture = gradio.Image(
                    label="Picture",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    buttons=[],
                    elem_id="picture",
                )
                # the file as it is: kiss3d reads it, and says what is wrong with it in its own words
                picture.preprocess = lambda payload: None if payload is None else payload.path
                preset = gradio.Dropdown(["auto", *presets()], value="auto", label="Preset", elem_id="preset")
                seed = gradio.Number(42, precision=0, minimum=0, label="Seed", elem_id="seed")
                # no Number: Gradio sends 0 for one that was never filled in
                faces = gradio.Textbox(label="Faces of the mesh, at most", placeholder="the preset's", max_lines=1)
                truth = gradio.File(
                    label="Ground truth mesh (may be left out)", file_types=list(MESH_SUFFIXES), height=160
                )
                # no accordions: Gradio fills a folded one late, and then undoes what was entered meanwhile
                more = gradio.Textbox(
                    label="More settings: KEY=VALUE, one a line",
                    placeholder="refine.steps=80",
                    lines=2,
                    elem_id="more",
                )
                start = gradio.Button("Make the mesh", variant="primary", elem_id="start")
            with gradio.Column(scale=3, min_width=300):
                with gradio.Row():
                    # Gradio's own check knows the runs of a moment ago; `Jobs.find` knows those of now
                    run = gradio.Dropdown(
                        [], label="Run", allow_custom_value=True, scale=4, min_width=280, elem_id="run"
                    )
                    cancel = gradio.Button("Cancel", elem_id="cancel", min_width=80)
                    resume = gradio.Button("Resume", elem_id="resume", min_width=80)
                state = gradio.HTML(elem_id="state")
                made = gradio.HTML(elem_id="made")
                result = gradio.HTML(elem_id="result")
                gradio.Markdown("### Measure against a mesh")
                with gradio.Row():
                    other = gradio.File(
                        label="Ground truth", file_types=list(MESH_SUFFIXES), height=160, elem_id="other", min_width=280
                    )
                    with gradio.Column(min_width=280):
                        aligned = gradio.Radio(
                            ["none", "yaw", "rigid", "similarity"],
                            value="similarity",
                            label="Alignment",
                            elem_id="aligned",
                        )
                        measure = gradio.Button("Measure", elem_id="measure")
                numbers = gradio.HTML(elem_id="numbers")
        timer = gradio.Timer(_TICK)

        def begin(
            picture: str | None, preset: str, seed: int | None, faces: str | None, truth: str | None, more: str | None
        ) -> Any:
            settings = [line.strip() for line in (more or "").splitlines()]
            if faces and faces.strip():
                settings.insert(0, f"refine.target_faces={faces.strip()}")
            request = Request(
                given(
                    picture=_uploaded(picture, PICTURE_SUFFIXES, "a picture"),
                    ground_truth=None if truth is None else _uploaded(truth, MESH_SUFFIXES, "a mesh"),
                ),
                preset=preset,
                seed=seed,
                settings=tuple(line for line in settings if line),
                command="kiss3d ui",
            )
            name = jobs.start(request)
            return gradio.Dropdown(choices=jobs.names(), value=name), _Shown()

        def look(name: str | None, known: _Shown) -> Any:
            """What changed since the last look; nothing is sent of what did not."""
            names = tuple(jobs.names())
            listed = gradio.skip() if names == known.names else gradio.Dropdown(choices=list(names))
            if name is not None and name not in names:  # someone removed its folder
                name, listed = None, gradio.Dropdown(choices=list(names), value=None)
            now = _Shown(names, name, _version(jobs, name))
            if now == dataclasses.replace(known, names=names, made=()):
                return dataclasses.replace(known, names=names), listed, *[gradio.skip()] * 4
            if not name:
                return now, listed, fragments.welcome(len(names)), "", "", ""
            numbers = gradio.skip() if name == known.name else ""  # they are of another run
            try:
                return *_parts(jobs, name, now, known, listed), numbers
            except (Kiss3dError, OSError) as error:
                return now, listed, fragments.problem(error), "", "", numbers

        def go_on(name: str | None) -> _Shown:
            if name:
                jobs.resume(name)
            return _Shown()

        def compare(name: str | None, path: str | None, alignment: str) -> str:
            if not name:
                raise BadInput("there is no run to measure", hint="make a mesh, or choose a run")
            mesh = mesh_of(jobs.find(name))
            if mesh is None:
                raise BadInput("this run has no mesh yet", place=name, hint="resume it")
            given = _uploaded(path, MESH_SUFFIXES, "a mesh")
            found = record_of(measure_pair(mesh, given, MeasureOptions(alignment=alignment)), mesh, given)
            return fragments.scores(name, given.name, columns_of(found))

        def list_runs(name: str | None) -> Any:
            """After a reload: the run at work, or the newest one."""
            names = jobs.names()
            active = [entry for entry in names if jobs.active(entry)]
            chosen = name if name in names else next(iter([*active[-1:], *names]), None)
            return gradio.Dropdown(choices=names, value=chosen), _Shown()

        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        private = {"api_visibility": "private"}
        start.click(_told(begin), [picture, preset, seed, faces, truth, more], [run, shown], **private)
        cancel.click(_told(lambda name: jobs.cancel(name or "")), [run], None, **quiet)
        resume.click(_told(go_on), [run], [shown], **quiet)
        measure.click(_told(compare), [run, other, aligned], [numbers], concurrency_limit=1, **private)
        blocks.load(_told(list_runs), [run], [run, shown], **quiet)
        seen = [shown, run, state, made, result, numbers]
        timer.tick(_told(look), [run, shown], seen, **quiet, trigger_mode="once")
    # Without it Gradio, which did not start the server itself, takes any path of this machine for an upload.
    blocks.has_launched = True
    return blocks


@dataclasses.dataclass(frozen=True)
class _Shown:
    """What a page has seen: the list of runs, the run, its version, and the stages whose pictures it has."""

    names: tuple[str, ...] | None = None
    name: str | None = None
    version: str = ""
    made: tuple[str, ...] = ()


def _parts(jobs: Jobs, name: str, now: _Shown, known: _Shown, listed: Any) -> tuple[Any, ...]:
    """Of a run: what is seen now, the list, its state, its pictures while it is at work, and then its result."""
    import gradio

    folder, view = jobs.find(name), jobs.view(name)
    if view is not None and not view.ticket.ended:
        made = ("work", *(str(told["stage"]) for told in view.stages if told["status"] in ("done", "skipped")))
        new = (known.name, known.made) != (name, made)
        pictures = fragments.pictures(read_run(folder)) if new else gradio.skip()
        return dataclasses.replace(now, made=made), listed, fragments.progress(view), pictures, ""
    if is_locked(folder.path):
        return now, listed, fragments.elsewhere(), fragments.pictures(read_run(folder)), ""
    jobs.report(name)
    now = dataclasses.replace(now, version=_version(jobs, name))
    state = "" if view is None else fragments.progress(view)
    return now, listed, state, "", fragments.result(read_run(folder), now.version)


def _version(jobs: Jobs, name: str | None) -> str:
    """Changes whenever there is something new to see of a run."""
    if not name:
        return "none"
    view, folder = jobs.view(name), jobs.outputs / name
    told = "" if view is None else f"{view.ticket.state}-{view.version}"
    if view is not None and not view.ticket.ended:
        return f"{name}-{told}"
    stamps = [path.stat().st_mtime_ns for path in (folder / REPORT, folder / LOG) if path.is_file()]
    return f"{name}-{told}-{'-'.join(map(str, stamps))}-{is_locked(folder)}"


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
        except Exception as error:
            known = from_exception(error)
            if known is None:
                raise
            hint = f" - {known.hint}" if known.hint else ""
            words = _UPLOADED.sub("", f"{known}{hint}")
            raise gradio.Error(text(words), print_exception=False) from None

    return guarded
