"""The service's log: one JSON object a line, for whatever collects logs.

    {"time": "2026-01-02T03:04:05.678+00:00", "level": "info", "event": "request", "method": "GET",
     "path": "/v1/runs/fox-20260102-030405", "status": 200, "seconds": 0.0021, "client": "127.0.0.1"}
    {..., "event": "run", "run": "fox-20260102-030405", "state": "running", "attempts": 1}
    {..., "event": "stage", "run": ..., "stage": "refine", "status": "done", "seconds": 2.7}
    {..., "event": "worker", "device": "cpu", "state": "started" | "died", "process": 4242}
    {..., "level": "error", "event": "a fault", "traceback": "..."}

Nothing that a client sent is in it but the path it asked for: no token, no picture, no words.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LOG = logging.getLogger("kiss3d.serve")
FORMATS = ("none", "json")


def event(name: str, **fields: Any) -> None:
    """Log what happened, if anyone wants to know."""
    if LOG.isEnabledFor(logging.INFO):
        LOG.info(name, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entries = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        entries |= getattr(record, "fields", {})
        if record.exc_info:
            entries["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entries, default=str)


def log_json(stream: TextIO | None = None) -> logging.Handler:
    """Write every event to a stream, standard error by default; returns the handler."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    return handler
