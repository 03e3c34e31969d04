"""Checks before any route: authentication, rate limits and request sizes."""

from __future__ import annotations

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.files import open_given
from kiss3d_cli.serve.logs import event
from kiss3d_cli.serve.problems import JSON, Problem

LOCAL = ("127.0.0.1", "localhost", "::1")
OPEN_PATHS = ("/health", "/v1/health")
"""Answered without a token: a load balancer has none."""
_SHORTEST_TOKEN = 16
_CLIENTS = 10_000
"""Whose requests are counted at a time."""


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; empty lines and those with # are left out.

    Raises:
        BadInput: it can't be read, has none, or one that is too short to keep anyone out.
    """
    hint = "write one token a line, as of: python -c 'import secrets; print(secrets.token_urlsafe())'"
    try:
        with open_given(path) as stream:
            lines = stream.read(2**20).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"the tokens can't be read ({reason})", place=str(path), hint=hint) from None
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not tokens:
        raise BadInput("there is no token in it", place=str(path), hint=hint)
    if any(len(token) < _SHORTEST_TOKEN or not token.isascii() for token in tokens):
        cause = f"a token has at least {_SHORTEST_TOKEN} letters of ASCII"
        raise BadInput(cause, place=str(path), hint=hint)
    return tokens


class Guard:
    """The outermost layer of the service.

    Args:
        tokens: whoever has none of them is refused; without any, nobody is.
        hosts: names under which it may be asked; empty for any. A page of another site reaches a local service under
            a name of its own (DNS rebinding).
        largest_body: bytes of a request.
        rate: requests that change something, of one client in a minute; 0 for no limit.
    """

    def __init__(self, app: Any, *, tokens: Sequence[str], hosts: Sequence[str], largest_body: int, rate: int) -> None:
        self._app, self._tokens, self._hosts = app, [token.encode() for token in tokens], hosts
        self._largest, self._rate = largest_body, rate
        self._allowance: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Counted(receive, self._largest)
        began, status = time.perf_counter(), 0

        async def noted(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            problem = self._problem(scope)
            if problem is None:
                await self._app(scope, body, noted)
            else:
                await answer(problem, noted)
        except _TooLarge:
            if not status:
                await answer(_too_large(self._largest), noted)
        finally:
            client = (scope.get("client") or ("",))[0]
            told = {"method": scope["method"], "path": scope["path"], "status": status, "client": client}
            event("request", **told, seconds=round(time.perf_counter() - began, 6))

    def _problem(self, scope: Any) -> Problem | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts and _name_of(host) not in self._hosts:
            return Problem(403, "this service is not known under that name", place="Host", hint="ask 127.0.0.1")
        origin = headers.get(b"origin")
        if origin is not None and _site_of(origin) != host:
            return Problem(403, "a page of another site may not ask this service", place="Origin")
        client = (scope.get("client") or ("",))[0]
        if self._tokens and scope["path"] not in OPEN_PATHS:
            kind, _, token = headers.get(b"authorization", "").partition(" ")
            given = token.strip().encode("latin-1")
            # each is compared, so that the time tells nothing
            known = sum(hmac.compare_digest(given, own) for own in self._tokens)
            if kind.lower() != "bearer" or not known:
                hint = "send the header Authorization: Bearer TOKEN"
                return Problem(401, "a token is needed", hint=hint, headers={"www-authenticate": "Bearer"})
            client = token
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > self._largest:
            return _too_large(self._largest)
        if scope["method"] not in ("GET", "HEAD") and not self._admits(client):
            hint = f"at most {self._rate} a minute"
            return Problem(429, "too many requests", hint=hint, headers={"retry-after": str(60 // self._rate + 1)})
        return None

    def _admits(self, client: str) -> bool:
        """A token bucket of a minute's requests for each client."""
        if not self._rate:
            return True
        now = time.monotonic()
        left, since = self._allowance.pop(client, (float(self._rate), now))
        left = min(self._rate, left + (now - since) * self._rate / 60)
        self._allowance[client] = (left - 1 if left >= 1 else left, now)
        if len(self._allowance) > _CLIENTS:
            self._allowance.popitem(last=False)
        return left >= 1


async def answer(problem: Problem, send: Any) -> None:
    """Send a problem without any framework."""
    body = json.dumps(problem.body()).encode()
    headers = {"content-type": JSON, "content-length": str(len(body)), "connection": "close", **problem.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class _TooLarge(Exception):
    pass


class _Counted:
    """The body of a request, up to so many bytes: a client need not say how many it sends."""

    def __init__(self, receive: Any, largest: int) -> None:
        self._receive, self._left = receive, largest

    async def __call__(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise _TooLarge
        return message


def _too_large(largest: int) -> Problem:
    return Problem(413, f"a request has at most {largest:,} bytes", hint="send a smaller picture or mesh")


def _name_of(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host


def _site_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
