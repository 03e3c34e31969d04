"""What comes to the page's server is looked at before Gradio sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kiss3d_cli.core.records import BadRecord, parse_json

_FETCHES = re.compile(r"/file[=/]\s*https?:|/proxy=|/deep_link")
"""Addresses of Gradio's that make the server itself ask another, or keep what it is told."""
_POSTS = re.compile(r"/gradio_api/(queue/join|upload|cancel|reset)/?")
"""All that the page itself sends; Gradio takes calls past its queue as well."""
_JOIN = re.compile(r"/gradio_api/queue/join/?")
_LARGEST_CALL = 2**20
"""Bytes of the arguments of a call; files are uploaded before."""
_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")
_ANCESTORS = b"frame-ancestors 'self'"


class OwnPages:
    """Lets no other site's page act through the user's browser or show this one in a frame of its own; lets Gradio
    fetch nothing for whoever asks, neither as an address nor as an upload; and refuses calls of no form, which Gradio
    answers with a traceback.

    Attributes:
        handlers: for each function of the page, by its number, how many values it takes.
        routes: whether the service's own routes, which look after themselves, are behind it too.
    """

    def __init__(self, app: Any, handlers: Mapping[int, int], *, routes: bool = False) -> None:
        self._app = app
        self._handlers = handlers
        self._routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            origin = headers.get(b"origin")
            if (origin is not None and _host(origin) != headers.get(b"host")) or _FETCHES.search(scope["path"]):
                await _refuse(403, scope, receive, send)
                return
            own = self._routes and scope["path"].startswith("/v1/")
            if scope["method"] not in ("GET", "HEAD") and not own:
                if scope["method"] != "POST" or not _POSTS.fullmatch(scope["path"]):
                    await _refuse(403, scope, receive, send)
                    return
                if _JOIN.fullmatch(scope["path"]):
                    body = await _body(receive)
                    if body is None or not self._is_call(body):
                        await _refuse(400, scope, receive, send)
                        return
                    receive = _again(body, receive)
            send = _framed(send)
        await self._app(scope, receive, send)

    def _is_call(self, body: bytes) -> bool:
        try:
            call = parse_json(body)
        except BadRecord:
            return False
        if not isinstance(call, dict) or not isinstance(call.get("data"), list):
            return False
        number, trigger = call.get("fn_index"), call.get("trigger_id")
        session = call.get("session_hash")
        return (
            type(number) is int
            and self._handlers.get(number) == len(call["data"])
            and (trigger is None or type(trigger) is int)
            and isinstance(session, str)
            and 0 < len(session) <= 100
            and not _names_address(call["data"])
        )


def _names_address(value: Any) -> bool:
    """Whether a file among the values is one of another server."""
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and _ADDRESS.match(path) is not None) or any(map(_names_address, value.values()))
    return isinstance(value, list) and any(map(_names_address, value))


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _body(receive: Any) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _LARGEST_CALL:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Any) -> Any:
    sent = False

    async def again() -> Any:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _framed(send: Any) -> Any:
    """Add to each answer who may show it in a frame: this server's own pages."""

    async def framed(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            policies = [value for name, value in headers if name.lower() == b"content-security-policy"]
            headers = [(name, value) for name, value in headers if name.lower() != b"content-security-policy"]
            headers.append((b"content-security-policy", b"; ".join([*policies, _ANCESTORS])))
            headers.append((b"x-frame-options", b"SAMEORIGIN"))
            message = {**message, "headers": headers}
        await send(message)

    return framed


async def _refuse(code: int, scope: Any, receive: Any, send: Any) -> None:
    from starlette.responses import PlainTextResponse

    await PlainTextResponse("refused", code)(scope, receive, _framed(send))
