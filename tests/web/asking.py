"""The page's server without a page: what any program on the machine can ask of it."""

from __future__ import annotations

import contextlib
import http.client
import json

from patience import PATIENCE


def fetch(url: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Ask past the browser, the path as it is: the answer's status, and its body up to the end of the first event."""
    with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)) as connection:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        with connection.getresponse() as answer:
            read = b""
            while part := answer.readline():
                read += part
                if b"process_completed" in part:
                    break
            return answer.status, read


def ask(url: str, name: str, *data: object) -> dict:
    """Call a handler of the page past the page, as any program on this machine can."""
    handlers = json.loads(fetch(url, "/config")[1])["dependencies"]
    number = next(handler["id"] for handler in handlers if handler["api_name"] == name)
    body = json.dumps({"data": data, "fn_index": number, "session_hash": name}).encode()
    assert fetch(url, "/gradio_api/queue/join", body, {"Content-Type": "application/json"})[0] == 200
    _status, events = fetch(url, f"/gradio_api/queue/data?session_hash={name}")
    return json.loads(events.splitlines()[-1].removeprefix(b"data: "))
