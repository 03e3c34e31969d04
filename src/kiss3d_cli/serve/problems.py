"""Errors as answers: `application/problem+json` (RFC 9457) with the command line's words."""

from __future__ import annotations

from typing import Any

from kiss3d_cli.core.errors import BadInput, DamagedRun, Kiss3dError, Missing, OutOfMemory, RunInUse, from_exception

JSON = "application/problem+json"
_STATUS: tuple[tuple[type[Kiss3dError], int], ...] = (
    (BadInput, 422),
    (Missing, 503),
    (OutOfMemory, 503),
    (DamagedRun, 500),
    (RunInUse, 409),
)
_TITLES = {
    400: "Bad request",
    401: "No valid token",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Unusable input",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        detail: one sentence, what is wrong.
        place: the field, file, option or run that it is about.
        hint: what helps.
        code: the exit code that the command line has for it.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        place: str | None = None,
        hint: str | None = None,
        code: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.place, self.hint, self.code = status, detail, place, hint, code
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        found = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            "place": self.place,
            "hint": self.hint,
            "exit_code": self.code,
        }
        return {name: value for name, value in found.items() if value is not None}


def problem_of(error: BaseException) -> Problem | None:
    """The answer to an error of kiss3d or of the system; None to one that is a fault."""
    known = from_exception(error)
    if known is None:
        return None
    status = next((status for kind, status in _STATUS if isinstance(known, kind)), 500)
    return Problem(status, known.cause, place=known.place, hint=known.hint, code=known.exit_code)
