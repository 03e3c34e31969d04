"""The routes under /v1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from kiss3d_cli import __version__
from kiss3d_cli.pipeline.inputs import kinds
from kiss3d_cli.report.run_view import own_file
from kiss3d_cli.serve.answers import HealthAnswer, ProblemAnswer, RunAnswer, RunsAnswer, files_of, run_answer
from kiss3d_cli.serve.problems import JSON, Problem
from kiss3d_cli.serve.tickets import STATES
from kiss3d_cli.serve.view import View

if TYPE_CHECKING:
    from kiss3d_cli.serve.app import Intake

_TICK = 0.2
"""Seconds between two looks at a run that a client follows."""
_HEARTBEAT = 15.0
"""Seconds after which a stream says something, so that nothing between takes it for dead."""
_LONGEST_KEY = 200
SANDBOX = "sandbox allow-scripts"
"""A report may come from elsewhere with its run: it is shown, and has no say over this service."""


def routes(intake: Intake) -> Any:
    """The router. Needs the extra `serve`."""

    service = intake.service
    problems = {
        code: {"model": ProblemAnswer, "content": {JSON: {}}} for code in (401, 403, 404, 409, 413, 415, 422, 429, 503)
    }
    router = APIRouter(responses={code: problems[code] for code in (401, 403)})

    def found(run: str, view: View | None) -> View:
        if view is None:
            raise Problem(404, "there is no such run", place=run[:80], hint="GET /v1/runs lists all")
        return view

    async def create(request: Request) -> Any:
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise Problem(422, f"a key has 1 to {_LONGEST_KEY} letters", place="Idempotency-Key", code=2)
        fields, files = await intake.form(request)
        # keys of two clients are two keys
        owner = request.headers.get("authorization", "")
        view, new = await intake.accept(fields, files, key=None if key is None else f"{owner}\n{key}")
        headers = {"location": f"/v1/runs/{view.ticket.id}"}
        return JSONResponse(run_answer(service, view), 202 if new else 200, headers)

    def listed(
        state: str | None = Query(None, description=f"Only those in this state: {', '.join(STATES)}."),
        limit: int = Query(100, ge=1, le=1000),
        offset: int = Query(0, ge=0, le=10**9),
    ) -> Any:
        if state is not None and state not in STATES:
            raise Problem(422, "there is no such state", place="state", hint=f"one of: {', '.join(STATES)}", code=2)
        views = [view for view in service.views() if state in (None, view.ticket.state)]
        shown = [run_answer(service, view) for view in views[offset : offset + limit]]
        return JSONResponse({"runs": shown, "total": len(views)})

    async def one(run: str) -> Any:
        return JSONResponse(run_answer(service, found(run, service.view(run))))

    def cancel(run: str) -> Any:
        return JSONResponse(run_answer(service, found(run, service.cancel(run))), 202)

    def again(run: str) -> Any:
        return JSONResponse(run_answer(service, found(run, service.again(run))), 202)

    async def events(run: str, request: Request) -> Any:
        found(run, service.view(run))

        async def lines() -> AsyncIterator[str]:
            seen, waited = -1, 0.0
            while not await request.is_disconnected():
                view = service.view(run)
                if view is None:
                    return
                if view.version != seen:
                    seen, waited = view.version, 0.0
                    event = "end" if view.ticket.ended else "progress"
                    yield f"id: {seen}\nevent: {event}\ndata: {json.dumps(run_answer(service, view))}\n\n"
                    if view.ticket.ended:
                        return
                elif waited >= _HEARTBEAT:
                    waited = 0.0
                    yield ": still there\n\n"
                await asyncio.sleep(_TICK)
                waited += _TICK

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    def file(run: str, name: str) -> Any:
        found(run, service.view(run))
        path = own_file(service.folder(run).path, name) if name in files_of(service, run) else None
        if path is None:
            raise Problem(404, "the run has no such file", place=name[:200], hint="its `files` lists all there are")
        headers = {"content-security-policy": SANDBOX, "x-content-type-options": "nosniff"}
        return FileResponse(path, headers=headers)

    async def health() -> Any:
        return JSONResponse({"status": "healthy", "version": __version__, "runs": service.counts()})

    body = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}}
    key_header = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
        "description": "A request that is sent again with the same key makes no second run.",
    }
    add = router.add_api_route
    add(
        "/v1/runs",
        create,
        methods=["POST"],
        status_code=202,
        response_model=RunAnswer,
        responses={200: {"model": RunAnswer}, **{code: problems[code] for code in (413, 415, 422, 429, 503)}},
        openapi_extra={**body, "parameters": [key_header]},
        summary="Accept a run.",
    )
    add("/v1/runs", listed, methods=["GET"], response_model=RunsAnswer, responses={422: problems[422]})
    add("/v1/runs/{run}", one, methods=["GET"], response_model=RunAnswer, responses={404: problems[404]})
    add(
        "/v1/runs/{run}",
        cancel,
        methods=["DELETE"],
        status_code=202,
        response_model=RunAnswer,
        responses={404: problems[404], 429: problems[429]},
        summary="Stop a run at its next safe point; it stays resumable.",
    )
    add(
        "/v1/runs/{run}/resume",
        again,
        methods=["POST"],
        status_code=202,
        response_model=RunAnswer,
        responses={404: problems[404], 422: problems[422], 429: problems[429]},
        summary="Go on with a run that failed or was cancelled.",
    )
    stream = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, 404: problems[404]}
    add("/v1/runs/{run}/events", events, methods=["GET"], response_class=StreamingResponse, responses=stream)
    binary = {200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}, 404: problems[404]}
    add("/v1/runs/{run}/files/{name:path}", file, methods=["GET"], response_class=FileResponse, responses=binary)
    add("/v1/health", health, methods=["GET"], response_model=HealthAnswer)
    add("/health", health, methods=["GET"], response_model=HealthAnswer)
    return router


def _form_schema() -> dict[str, Any]:
    """The form of a new run, with a field for every kind of input."""
    fields: dict[str, Any] = {
        kind.name: {
            "type": "string",
            "description": kind.help,
            **({} if kind.typed else {"contentMediaType": "application/octet-stream"}),
        }
        for kind in kinds().values()
    }
    fields |= {
        "preset": {"type": "string", "description": "auto, draft, 12gb, fast or quality.", "example": "draft"},
        "settings": {
            "type": "string",
            "description": "A JSON object of settings by their dotted names, or key=value lines.",
            "example": '{"refine.target_faces": 20000}',
        },
        "seed": {"type": "integer", "example": 0},
        "caption": {"type": "string", "description": "Caption to use instead of a generated one."},
        "strength": {
            "type": "number",
            "description": "How far the bundle may go from its start, 0 to 1.",
        },
        "until": {"type": "string", "description": "Stop after this stage.", "example": "bundle"},
        "name": {"type": "string", "description": "The run's name; the picture's by default."},
    }
    return {"type": "object", "properties": fields, "additionalProperties": False}
