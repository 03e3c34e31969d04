"""A hub of two repositories on this machine: enough of its protocol for the real client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

SHA = "a" * 40


class Hub(ThreadingHTTPServer):
    """`files`: content by file name, by repository; `cut`: bytes after which the next download breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.cut: int | None = None
        self.ranges: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlparse(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:])
        if "resolve" in parts:
            return self._file("/".join(parts[:2]), "/".join(parts[4:]))
        return self._file("/".join(parts[:-1]), parts[-1])

    def _api(self, repository: str, rest: list[str]) -> None:
        files = self.server.files.get(repository)
        if files is None:
            return self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if rest[:1] == ["auth-check"]:
            if repository in self.server.gated:
                return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return self._answer(200, b"{}")
        if rest[:1] == ["tree"]:
            rows = [{"type": "file", "path": n, "size": len(d), "oid": _blob(d)} for n, d in files.items()]
            return self._answer(200, json.dumps(rows).encode())
        siblings = [{"rfilename": name, "size": len(data), "blobId": _blob(data)} for name, data in files.items()]
        gated = "manual" if repository in self.server.gated else False
        record = {"_id": "1", "id": repository, "sha": SHA, "gated": gated, "siblings": siblings}
        return self._answer(200, json.dumps(record).encode())

    def _file(self, repository: str, name: str) -> None:
        data = self.server.files.get(repository, {}).get(name)
        if data is None:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_blob(data)}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        span = self.headers.get("Range")
        if span is None:
            return self._answer(200, data, headers)
        self.server.ranges.append(span)
        start = int(span.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self._answer(206, data[start:], headers)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut if len(data) > (self.server.cut or 0) and "json" not in self.path else None
        if cut is not None and not self.path.startswith("/api"):
            self.server.cut = None
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
