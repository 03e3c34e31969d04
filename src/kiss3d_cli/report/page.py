"""The frame of every page: one file, no network, no code but its own.

All that comes from a file or a user goes through `text`. The policy in the head holds a browser to it: scripts by their
hash alone, pictures from the page alone, connections to nowhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources


def text(value: object) -> str:
    """Any value as HTML text, also inside an attribute's quotes."""
    return escape(str(value), quote=True)


def page(title: str, body: str, scripts: Sequence[str] = ()) -> str:
    """A whole document.

    Args:
        title: plain text.
        body: HTML.
        scripts: names of this package's JavaScript files, run in this order after the body.
    """
    sources = [_own("page.js"), *(_own(name) for name in scripts)]
    hashes = " ".join(f"'sha256-{_sha256(source)}'" for source in sources)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            '<link rel="icon" href="data:,">',
            f"<title>{text(title)}</title>",
            f"<style>{_own('page.css')}</style>",
            "</head>",
            "<body>",
            body,
            *(f"<script>{source}</script>" for source in sources),
            "</body>",
            "</html>",
            "",
        ]
    )


def section(title: str, body: str, name: str = "") -> str:
    """Args: title: plain text; body: HTML, nothing is made of an empty one; name: a class."""
    kind = f' class="{name}"' if name else ""
    return f"<section{kind}><h2>{text(title)}</h2>{body}</section>" if body else ""


def figure(uri: str | None, caption: str, name: str = "") -> str:
    """A picture that opens large, or nothing.

    Args:
        uri: of a picture.
        caption: plain text.
        name: a class.
    """
    if uri is None:
        return ""
    return (
        f'<figure class="{name}"><button type="button" class="picture"><img src="{text(uri)}" alt="{text(caption)}">'
        f"</button><figcaption>{text(caption)}</figcaption></figure>"
    )


def command(identifier: str, line: str) -> str:
    """A command line with a button that copies it."""
    return (
        f'<div class="command"><pre id="{identifier}">{text(line)}</pre>'
        f'<button type="button" data-copy="{identifier}">Copy</button></div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], name: str = "") -> str:
    """Args: head: plain text, may be empty; rows: HTML cells; name: a class."""
    if not rows:
        return ""
    top = f"<thead><tr>{''.join(f'<th>{text(cell)}</th>' for cell in head)}</tr></thead>" if head else ""
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{name}">{top}<tbody>{lines}</tbody></table></div>'


LARGE_PICTURE = '<dialog id="large"><img alt=""></dialog>'
"""Where a picture opens large."""


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _sha256(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")
