"""What any program on the machine can send to the page's server."""

from __future__ import annotations

import asyncio
import json

import pytest

from kiss3d_cli.web.guard import OwnPages

pytest.importorskip("starlette", reason="gradio is not installed (pip install 'kiss3d[ui]')")
GOOD = {"data": ["a", None], "fn_index": 3, "session_hash": "x", "trigger_id": None, "event_data": None}


async def inner(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-security-policy", b"sandbox")]})
    await send({"type": "http.response.body", "body": message.get("body", b"")})


def send(path: str, body: bytes = b"", method: str = "POST", **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[dict] = []
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def answer(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"host", b"127.0.0.1:7860"), *((k.encode(), v.encode()) for k, v in headers.items())],
    }
    asyncio.run(OwnPages(inner, {3: 2})(scope, receive, answer))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def join(**changes: object) -> int:
    return send("/gradio_api/queue/join", json.dumps(GOOD | changes).encode())[0]


def test_a_call_of_the_page_passes_whole():
    body = json.dumps(GOOD).encode()
    status, headers, seen = send("/gradio_api/queue/join", body, origin="http://127.0.0.1:7860")
    assert (status, seen) == (200, body)
    assert headers[b"content-security-policy"] == b"sandbox; frame-ancestors 'self'"
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"


@pytest.mark.parametrize(
    "changes",
    [
        {"fn_index": 99},
        {"fn_index": "3"},
        {"fn_index": None},
        {"fn_index": True},
        {"data": []},
        {"data": None},
        {"data": ["a"] * 3},
        {"data": {"a": 1}},
        {"session_hash": None},
        {"session_hash": "x" * 5000},
        {"trigger_id": "x"},
        {"data": [{"path": "http://example.org/a.png", "meta": {"_type": "gradio.FileData"}}, None]},
        {"data": [None, [{"a": {"path": " FTP://example.org/a.png"}}]]},
        {"data": [{"path": "file:///etc/passwd"}, None]},
    ],
)
def test_calls_that_are_refused(changes):
    assert join() == 200
    assert join(**changes) == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"NaN", b"[" * 9999, b" " * (2**20 + 1)])
def test_bodies_that_are_no_call(body):
    assert send("/gradio_api/queue/join", body)[0] == 400


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/gradio_api/run/begin", "POST"),
        ("/gradio_api/api/begin", "POST"),
        ("/gradio_api/call/begin", "POST"),
        ("/gradio_api/component_server", "POST"),
        ("/gradio_api/queue/join", "PUT"),
        ("/runs/x/report.html", "DELETE"),
        ("/gradio_api/file=https://example.org/", "GET"),
    ],
)
def test_doors_that_the_page_does_not_use(path, method):
    assert send(path, method=method)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "http://127.0.0.1:7861"])
def test_other_sites(origin):
    assert send("/gradio_api/queue/join", json.dumps(GOOD).encode(), origin=origin)[0] == 403
