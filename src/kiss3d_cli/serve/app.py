"""The service over HTTP: routes of our own under /v1, those that scripts for Hunyuan3D-2 ask for, and /metrics."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiss3d_cli import __version__
from kiss3d_cli.core.errors import BadInput, Interrupted, Kiss3dError, Missing
from kiss3d_cli.pipeline.inputs import Given, kinds
from kiss3d_cli.serve.forms import FIELDS, SETTINGS, digest, request_of, save
from kiss3d_cli.serve.guard import LOCAL, Guard
from kiss3d_cli.serve.logs import LOG
from kiss3d_cli.serve.problems import JSON, Problem, problem_of
from kiss3d_cli.serve.service import QueueFull, Service
from kiss3d_cli.serve.tickets import FOLDER
from kiss3d_cli.serve.view import View

_PACKAGES = ("fastapi", "uvicorn", "multipart", "prometheus_client")
MOST_FIELDS = 40


@dataclass(frozen=True)
class Options:
    """How a service is run.

    Attributes:
        preset: of requests that name none.
        settings: of all runs; they win over a client's.
        tokens: of clients; without any, whoever reaches the service may use it.
        largest_body: bytes of a request.
        rate: requests that change something, of one client in a minute; 0 for no limit.
    """

    preset: str = "auto"
    settings: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    largest_body: int = 200 * 2**20
    rate: int = 600


def check_packages() -> None:
    """Raises Missing without the extra `serve`."""
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        cause = f"the service needs {', '.join(absent)}, which is not installed"
        raise Missing(cause, place="kiss3d serve", hint="pip install 'kiss3d[serve]'")


def listen(service: Service, options: Options, host: str, port: int, listening: Callable[[], None]) -> None:
    """Serve until interrupted.

    Args:
        listening: told when it is about to be there.

    Raises:
        BadInput: it can't listen there.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no name of a host"
        hint = "choose another --port, or --host 127.0.0.1"
        raise BadInput(f"it can't listen there ({reason})", place=f"{host[:80]}:{port}", hint=hint) from None
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        make_app(service, options, host), host=host, port=port, log_level="error", timeout_graceful_shutdown=2
    )
    listening()
    with contextlib.suppress(KeyboardInterrupt, Interrupted):  # uvicorn raises its signal again when it is done
        uvicorn.Server(config).run()


class Intake:
    """Takes requests apart and hands them to the service."""

    def __init__(self, service: Service, options: Options) -> None:
        self.service, self.options = service, options
        self._uploads = service.out / FOLDER / "uploads"
        shutil.rmtree(self._uploads, ignore_errors=True)  # of a service that was killed
        self._uploads.mkdir()

    async def form(self, request: Any) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
        """The fields and the files of a multipart body."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Problem(
                415, "the body is not multipart/form-data", place="Content-Type", hint="curl -F picture=@a.png"
            )
        fields: dict[str, str] = {}
        files: dict[str, tuple[str, bytes]] = {}
        async with request.form(
            max_files=MOST_FIELDS, max_fields=MOST_FIELDS, max_part_size=self.options.largest_body
        ) as form:
            for name, value in form.multi_items():
                if name in fields or name in files:
                    raise Problem(422, "this field was sent twice", place=name[:80], code=2)
                if isinstance(value, str):
                    fields[name] = value
                else:
                    files[name] = (value.filename or name, await value.read())
        return fields, files

    async def accept(
        self,
        fields: Mapping[str, str],
        files: Mapping[str, tuple[str, bytes]],
        *,
        key: str | None = None,
        options: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
    ) -> tuple[View, bool]:
        """Accept a run, in a thread: pictures are opened and meshes read.

        Raises:
            Problem: whatever is wrong, without a word on this machine's folders.
        """
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(self._accept, dict(fields), files, key, options, settings)

    def _accept(
        self,
        fields: dict[str, str],
        files: Mapping[str, tuple[str, bytes]],
        key: str | None,
        options: Mapping[str, str] | None,
        settings: Sequence[str],
    ) -> tuple[View, bool]:
        told = digest(fields, {name: data for name, (_filename, data) in files.items()})
        uploads = Path(tempfile.mkdtemp(dir=self._uploads))
        saved: dict[Path, str] = {}
        try:
            inputs: dict[str, Given] = {}
            for name, (filename, data) in files.items():
                if name not in kinds() or kinds()[name].typed:
                    known = ", ".join(kind.name for kind in kinds().values() if not kind.typed)
                    raise BadInput("there is no such file to send", place=name[:80], hint=f"known are: {known}")
                path = save(uploads, name, filename, data)
                inputs[name], saved[path] = path, name
            for kind in kinds().values():
                if kind.name not in fields:
                    continue
                if not kind.typed:
                    raise BadInput("it is a file, and a text was sent", place=kind.name, hint="send its bytes")
                inputs[kind.name] = fields.pop(kind.name)
            given = (*self.options.settings, *settings)
            request = request_of(fields, inputs, self.options.preset, given)
            return self.service.accept(request, options, key, told)
        except QueueFull as error:
            raise Problem(503, error.cause, hint=error.hint, headers={"retry-after": "30"}) from None
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            raise _told_apart(problem, saved) from None
        finally:
            shutil.rmtree(uploads, ignore_errors=True)


_OPTION = re.compile(r"--[a-z][a-z-]*|\bPICTURE\b")


def _told_apart(problem: Problem, saved: Mapping[Path, str]) -> Problem:
    """The problem with fields in place of the files and options that stand for them here."""

    fields = {kind.option: kind.name for kind in kinds().values()}
    fields |= {f"--{name}": name for name in FIELDS} | {"--set": SETTINGS}

    def plain(text: str | None) -> str | None:
        for path, name in saved.items():
            text = None if text is None else text.replace(str(path), name)
        return text

    def in_fields(text: str | None) -> str | None:
        return None if text is None else _OPTION.sub(lambda found: fields.get(found[0], found[0]), text)

    return Problem(
        problem.status,
        in_fields(plain(problem.detail)) or "",
        place=in_fields(plain(problem.place)),
        hint=plain(problem.hint),
        code=problem.code,
        headers=problem.headers,
    )


def make_app(service: Service, options: Options, host: str = "127.0.0.1") -> Any:
    """The whole application, for uvicorn; it starts the service's queue and closes it."""
    check_packages()
    from fastapi import FastAPI

    from kiss3d_cli.serve import hunyuan, metrics, v1

    @contextlib.asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="kiss3d",
        version=__version__,
        summary="One picture in, a textured 3D mesh out.",
        docs_url=None,  # its page comes from another server
        redoc_url=None,
        lifespan=lifespan,
    )
    intake = Intake(service, options)
    routers = [v1.routes(intake), hunyuan.routes(intake), metrics.routes(service)]
    for router in routers:
        app.include_router(router)
    add_errors(app, [route for router in routers for route in router.routes])
    local = host in LOCAL
    app.add_middleware(
        Guard,
        tokens=options.tokens,
        hosts=("127.0.0.1", "localhost", "[::1]") if local else (),
        largest_body=options.largest_body,
        rate=options.rate,
    )
    return app


def add_errors(app: Any, routes: Sequence[Any]) -> None:
    """Answer every error of an application as a problem.

    Args:
        routes: of the application, to tell which methods a path has.
    """
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app.state.routes = list(routes)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)


# -- errors -----------------------------------------------------------------------------------------------------------


def _shown(problem: Problem) -> Any:
    from fastapi.responses import JSONResponse

    return JSONResponse(problem.body(), problem.status, problem.headers, media_type=JSON)


async def _known(_request: Any, error: Any) -> Any:
    return _shown(error if isinstance(error, Problem) else problem_of(error) or Problem(500, _FAULT))


async def _refused(request: Any, error: Any) -> Any:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # of the routes of one path, the framework names only the first one's methods
        from starlette.routing import Match

        there = [route for route in request.app.state.routes if route.matches(request.scope)[0] != Match.NONE]
        headers["allow"] = ", ".join(sorted(set().union(*(route.methods for route in there))))
    return _shown(Problem(error.status_code, str(error.detail), headers=headers))


async def _invalid(_request: Any, error: Any) -> Any:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first.get("loc", ()) if part not in ("body", "query", "path"))
    return _shown(Problem(422, str(first.get("msg", "it is not valid")), place=place or None, code=2))


async def _fault(_request: Any, error: Any) -> Any:
    LOG.error("a fault", exc_info=error)
    return _shown(Problem(500, _FAULT, hint="its traceback is in the service's log"))


_FAULT = "a fault in kiss3d"
_HANDLERS: dict[Any, Any] = {Problem: _known, Kiss3dError: _known, Exception: _fault}
