"""Reads what tests need of the project's Markdown pages: links, anchors, code blocks, code in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)[^\n]*\n(.*?)^ {0,3}\1 *$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:    [^\n]*\n)+")


def pages() -> list[Path]:
    """Every page that people read."""
    single = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")]
    return [*single, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[str]:
    """The text of all code blocks, fenced or indented."""
    fenced = [match[2] for match in _FENCE.finditer(text)]
    return fenced + [match[0] for match in _INDENTED.finditer(_FENCE.sub("\n", text))]


def without_blocks(text: str) -> str:
    return _INDENTED.sub("\n", _FENCE.sub("\n", text))


def inline_code(text: str) -> Iterator[str]:
    """What stands between backticks in sentences and tables."""
    for match in _INLINE.finditer(without_blocks(text)):
        yield " ".join(match[2].replace("\\|", "|").split())


def links(text: str) -> list[str]:
    """The targets of all links and pictures, those whose text is code included."""
    return _LINK.findall(_INLINE.sub("code", without_blocks(text)))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings as GitHub makes them: in lower case, without punctuation, repeats numbered."""
    found: dict[str, int] = {}
    names = set()
    for title in re.findall(r"^#{1,6} +(.+?) *#* *$", without_blocks(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names
