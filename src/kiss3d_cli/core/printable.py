"""Text from files and names, made harmless for a terminal."""

from __future__ import annotations

import re

_HARMFUL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tab and newline: escape sequences begin with one of them
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # direction, invisible, lines
    "\U000e0000-\U000e007f"  # letters that nobody sees
    "\ud800-\udfff"  # bytes of a name that are not UTF-8
    "]"
)


def printable(text: str) -> str:
    r"""The text with every control and bidirectional character written out, as in `\x1b` and `\u202e`."""
    return _HARMFUL.sub(_escaped, text)


def printable_json(text: str) -> str:
    r"""The same for JSON, in which these characters stand in strings only: `\u001b`."""
    return _HARMFUL.sub(_escaped_json, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _escaped_json(match: re.Match[str]) -> str:
    data = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[at : at + 2].hex()}" for at in range(0, len(data), 2))
