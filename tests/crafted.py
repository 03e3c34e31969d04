"""Records that someone wrote to do harm, or that something unlucky befell: over 200 of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kiss3d_cli.core.records import seal

VALUES = (
    None,
    True,
    -1,
    0,
    2**80,
    "",
    "\0",
    "../../../etc/passwd",
    "x" * 5000,
    "\x1b]0;owned\x07\x1b[2J\u202e",
    "<script>alert(1)</script>",
    [],
    [[]],
    {},
    {"path": 1},
    [{"path": "a", "bytes": -1, "sha256": 7}],
)
TEXTS = ("1e999", "NaN", "-Infinity", '"\\ud800"', "[" * 9000 + "]" * 9000, '{"a":' * 500 + "0" + "}" * 500, "9" * 5000)
"""JSON that Python's own writer does not write."""


def crafted(record: dict) -> Iterator[tuple[str, bytes]]:
    """Every entry of a record missing, or of each value above; sealed as its writer would, and texts of no form."""
    record = {key: value for key, value in record.items() if key != "checksum"}
    for key in record:
        if key != "schema_version":
            yield f"no {key}", seal({other: value for other, value in record.items() if other != key})
            for number, value in enumerate(VALUES):
                try:
                    yield f"{key} {number}", seal(record | {key: value})
                except ValueError:
                    continue
        old = record | {"schema_version": 1}
        for number, text in enumerate(TEXTS):
            yield f"{key} text {number}", json.dumps(old | {key: "HERE"}).replace('"HERE"', text).encode()
    whole = seal(record)
    yield from {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "twice": whole * 2,
        "zeros": bytes(5000),
        "not UTF-8": b"\xff" * 5000,
        "UTF-16": whole.decode().encode("utf-16"),
        "a list": b"[]",
        "newer": seal(record | {"schema_version": 9}),
        "older than old": seal(record | {"schema_version": -1}),
        "too large": b" " * (17 * 2**20),
    }.items()
