"""Conversion of what clients send to a request of the pipeline."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.pipeline.inputs import Given, kinds
from kiss3d_cli.pipeline.launch import Request

FIELDS = ("preset", "seed", "caption", "strength", "until", "name")
SETTINGS = "settings"
OWN_SECTIONS = ("models", "device")
"""Settings of the machine: whoever starts the service has made them, and no client may read its files by them."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def save(folder: Path, name: str, filename: str, data: bytes) -> Path:
    """Write what was sent for an input, under a name that the client can't choose beyond its letters."""
    suffix = Path(filename).suffix
    stem = re.sub(r"[^\w-]+", "-", Path(filename).stem)[:60].strip("-") or name
    place = folder / name
    place.mkdir()
    path = place / (stem + (suffix.lower() if _SUFFIX.fullmatch(suffix) else ""))
    path.write_bytes(data)
    return path


def decoded(text: Any, field: str) -> bytes:
    """The bytes of a base64 field, with or without the head of a data: address."""
    if not isinstance(text, str):
        raise BadInput("it is not a text", place=field, hint="send the file's bytes in base64")
    body = text.partition("base64,")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("it is not base64", place=field, hint="send the file's bytes in base64") from None


def request_of(
    fields: Mapping[str, str], inputs: Mapping[str, Given], preset: str, settings: tuple[str, ...]
) -> Request:
    """A request from the fields of a form.

    Args:
        fields: of `FIELDS`, and `SETTINGS` as one JSON object or `key=value` lines.
        inputs: files that were saved, and words.
        preset: where the client names none.
        settings: of whoever started the service; they win over the client's.

    Raises:
        BadInput: an unknown field, a number that is none, a setting of the machine.
    """
    unknown = sorted(set(fields) - {*FIELDS, SETTINGS})
    if unknown:
        known = ", ".join((*kinds(), *FIELDS, SETTINGS))
        raise BadInput("there is no such field", place=unknown[0][:80], hint=f"known are: {known}")
    return Request(
        inputs=inputs,
        preset=fields.get("preset") or preset,
        settings=(*_settings(fields.get(SETTINGS, "")), *settings),
        caption=fields.get("caption"),
        seed=_number(fields, "seed", int),
        strength=_number(fields, "strength", float),
        name=fields.get("name"),
        until=fields.get("until"),
        command="kiss3d serve",
    )


def _settings(text: str) -> tuple[str, ...]:
    if text.lstrip().startswith("{"):
        try:
            given = parse_json(text)
            if any(isinstance(value, dict) for value in given.values()):
                raise BadRecord("a setting is no object")
        except BadRecord:
            hint = 'as {"bundle.steps": 20, "refine.texture": false}'
            raise BadInput("they are no JSON object of settings", place=SETTINGS, hint=hint) from None
        assignments = tuple(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()
        )
    else:
        assignments = tuple(line.strip() for line in text.splitlines() if line.strip())
    for assignment in assignments:
        section = assignment.partition("=")[0].strip().partition(".")[0]
        if section in OWN_SECTIONS:
            hint = f"start the service with kiss3d serve --set {section}..."
            raise BadInput("this is a setting of the machine, not of a run", place=section, hint=hint)
    return assignments


def _number(fields: Mapping[str, str], name: str, kind: type) -> Any:
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        words = "a whole number" if kind is int else "a number"
        raise BadInput(f"'{text[:40]}' is not {words}", place=name, hint=f"give {words}") from None


def digest(fields: Mapping[str, str], files: Mapping[str, bytes]) -> str:
    """What tells one request from another."""
    found = hashlib.sha256()
    for name, value in sorted({**{k: v.encode() for k, v in fields.items()}, **files}.items()):
        found.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(value).digest())
    return found.hexdigest()
