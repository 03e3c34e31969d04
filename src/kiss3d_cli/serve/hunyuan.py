"""The routes of Hunyuan3D-2's API server, so that scripts and add-ons made for it work when pointed here.

    POST /generate      JSON {"image": base64, "seed", "texture", "face_count", "type"}, or multipart: the mesh's file
    POST /send          the same JSON: {"uid": ...} at once
    GET  /status/UID    {"status": "processing" | "texturing" | "completed" | "error", "model_base64": ...}

Fields that only mean something to its networks (`octree_resolution`, `num_inference_steps`, `guidance_scale`, ...) are
accepted and have no effect. There a job that failed stays `processing`; here it is `error`, with the sentence.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.pipeline.launch import mesh_of
from kiss3d_cli.report.run_view import own_file
from kiss3d_cli.serve.answers import ProblemAnswer
from kiss3d_cli.serve.forms import decoded
from kiss3d_cli.serve.problems import JSON, Problem
from kiss3d_cli.serve.view import View

if TYPE_CHECKING:
    from kiss3d_cli.serve.app import Intake

TYPES = ("glb", "obj", "ply")
_TICK = 0.2
_MEDIA = {"glb": "model/gltf-binary", "obj": "model/obj", "ply": "application/octet-stream"}
_TYPE = "type"


def routes(intake: Intake) -> Any:
    """The router. Needs the extra `serve`."""

    service = intake.service
    router = APIRouter(tags=["Hunyuan3D-2"])

    async def accepted(request: Request) -> View:
        fields, files = await _fields(intake, request)
        kind = str(fields.pop(_TYPE, "glb") or "glb").lower()
        if kind not in TYPES:
            raise Problem(
                422, f"there is no type '{kind[:20]}'", place=_TYPE, hint=f"one of: {', '.join(TYPES)}", code=2
            )
        own, settings = _translated(fields)
        view, _new = await intake.accept(own, files, options={_TYPE: kind}, settings=settings)
        return view

    async def generate(request: Request) -> Any:
        name = (await accepted(request)).ticket.id
        while True:
            view = service.view(name)
            assert view is not None
            if view.ticket.ended:
                break
            await asyncio.sleep(_TICK)
        path = _result(intake, view)
        return FileResponse(path, media_type=_MEDIA[view.ticket.options[_TYPE]], filename=path.name)

    async def send(request: Request) -> Any:
        return JSONResponse({"uid": (await accepted(request)).ticket.id})

    async def status(uid: str) -> Any:
        view = service.view(uid)
        if view is None:
            raise Problem(404, "there is no such run", place=uid[:80], hint="POST /send returns the uid of a new one")
        if not view.ticket.ended:
            texturing = any(stage["stage"] == "refine" for stage in view.stages)
            return JSONResponse({"status": "texturing" if texturing else "processing"})
        try:
            path = _result(intake, view)
        except Problem as problem:
            return JSONResponse({"status": "error", "message": problem.detail, **problem.body(), "title": "error"})
        data = await run_in_threadpool(path.read_bytes)
        return JSONResponse({"status": "completed", "model_base64": base64.b64encode(data).decode()})

    problem: dict[int | str, dict[str, Any]] = {
        code: {"model": ProblemAnswer, "content": {JSON: {}}}
        for code in (401, 403, 404, 409, 413, 415, 422, 429, 500, 503)
    }
    binary = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}
    add = router.add_api_route
    add(
        "/generate",
        generate,
        methods=["POST"],
        response_class=FileResponse,
        responses={200: binary, **problem},
        openapi_extra=body,
    )
    answer = {"content": {"application/json": {"schema": {"type": "object"}}}}
    add("/send", send, methods=["POST"], responses={200: answer, **problem}, openapi_extra=body)
    add("/status/{uid}", status, methods=["GET"], responses={200: answer, **problem})
    return router


_SCHEMA = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "description": "The picture's bytes in base64."},
        "text": {"type": "string", "description": "Words instead of a picture."},
        "mesh": {"type": "string", "description": "A GLB in base64 to enhance instead of a picture."},
        "seed": {"type": "integer"},
        "texture": {"type": "boolean", "default": True},
        "face_count": {"type": "integer"},
        "type": {"type": "string", "enum": list(TYPES), "default": "glb"},
    },
}


async def _fields(intake: Intake, request: Any) -> tuple[dict[str, Any], dict[str, tuple[str, bytes]]]:
    """The fields of a JSON or multipart body, and its files by the names of our inputs."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        texts, sent = await intake.form(request)
        names = {"image": "picture", "file": "picture"}
        return dict(texts), {names.get(name, name): value for name, value in sent.items()}
    try:
        given = parse_json(await request.body(), most=100_000)
    except BadRecord as error:
        raise Problem(422, f"the body is not JSON: {error}", code=2) from None
    if not isinstance(given, dict):
        raise Problem(422, "the body is not a JSON object", code=2)
    files = {}
    if given.get("image") is not None:
        files["picture"] = ("image", decoded(given["image"], "image"))
    if given.get("mesh") is not None:
        files["mesh"] = ("mesh.glb", decoded(given["mesh"], "mesh"))
    return {name: value for name, value in given.items() if name not in ("image", "mesh")}, files


def _translated(fields: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Our fields, and settings, for theirs."""
    own: dict[str, str] = {}
    settings = []
    if isinstance(fields.get("text"), str):
        own["text"] = fields["text"]
    if fields.get("seed") not in (None, ""):
        own["seed"] = str(fields["seed"])
    if fields.get("face_count") not in (None, ""):
        settings.append(f"refine.target_faces={fields['face_count']}")
    if str(fields.get("texture", "true")).lower() in ("false", "0", "no"):
        settings.append("refine.texture=false")
    return own, settings


def _result(intake: Intake, view: View) -> Any:
    """The file that was asked for. Raises Problem if the run has none."""
    ticket, folder = view.ticket, intake.service.folder(view.ticket.id)
    if ticket.state == "failed":
        error = ticket.error or {}
        code = error.get("exit_code")
        status = {2: 422, 3: 503, 4: 503}.get(code or 0, 500)
        raise Problem(status, str(error.get("cause")), place=error.get("place"), hint=error.get("hint"), code=code)
    if ticket.state == "cancelled":
        raise Problem(409, "the run was cancelled", place=ticket.id, hint=f"POST /v1/runs/{ticket.id}/resume")
    mesh = mesh_of(folder)
    kind = ticket.options.get(_TYPE, "glb")
    path = None if mesh is None else own_file(folder.path, f"{mesh.parent.name}/mesh.{kind}")
    if path is None:
        raise Problem(500, "the run has no mesh", place=ticket.id)
    return path
