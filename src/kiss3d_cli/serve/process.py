"""A worker process as its service sees it: told orders, one JSON object a line, and telling the same."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kiss3d_cli.core.records import BadRecord, parse_json, whole_text

_WORKER = (sys.executable, "-m", "kiss3d_cli.serve.worker")


class WorkerProcess:
    """`kiss3d_cli.serve.worker`, which has what it is told and what it tells."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the service, which ends its workers itself
        )
        self.pid = self._process.pid

    def tell(self, order: Mapping[str, Any]) -> None:
        """Send an order. One that died is found out where it is read."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(whole_text(order)) + "\n")
            self._process.stdin.flush()

    def told(self) -> Iterator[dict[str, Any]]:
        """What it tells, until it dies; lines that are none of its own are left out."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(BadRecord):
                yield parse_json(line)
        self.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait for its end, and let go of it."""
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet
                if stream is not None:
                    stream.close()

    def death(self) -> str:
        """How it ended."""
        code = self._process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
