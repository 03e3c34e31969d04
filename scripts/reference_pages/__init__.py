"""The generated pages of docs/reference/, one module each; `scripts/make_reference.py` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars inside a cell are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentence(text: str) -> str:
    """Help texts as a sentence on one line, ending in a full stop."""
    joined = " ".join(text.split())
    return joined if not joined or joined[-1] in ".!?" else joined + "."
