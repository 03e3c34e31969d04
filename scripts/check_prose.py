"""Checks the language of the documentation: no long sentences, and the field's terms instead of private ones.

    python scripts/check_prose.py [FILE]...

Without files, every page of the project. Tables, code, headings and HTML comments are left out of the count; terms are
looked for in tables too. Terms and exceptions are in `prose_words.yaml` beside this script. Exits with 1 if it finds
anything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WORDS = Path(__file__).with_name("prose_words.yaml")
LONGEST = 35
"""Words of a sentence."""

_FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ITEM = re.compile(r"^ *(?:[-*+]|\d+\.) +")
_END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'(*_`\[]*[A-Z0-9`\[(])")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|etc|vs|Fig|Eq|No)\.(?=\s)")


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Every sentence with the number of the line on which its paragraph begins."""
    for line, paragraph in _paragraphs(text):
        plain = re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", paragraph)
        plain = re.sub(r"(`+).+?\1", "`code`", plain)
        plain = _ABBREVIATION.sub(r"\1", plain)
        for sentence in _END.split(plain):
            yield line, sentence


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    for block in (_FENCE, _COMMENT):
        text = block.sub(lambda found: "\n" * found[0].count("\n"), text)
    start, parts, before_blank = 0, [], True
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        indented_code = line.startswith("    ") and before_blank and not parts
        ends = not stripped or stripped.startswith(("|", "#", "![")) or _ITEM.match(line) or indented_code
        if ends and parts:
            yield start, " ".join(parts)
            parts = []
        if stripped and not stripped.startswith(("|", "#")) and not indented_code:
            start = start if parts else number
            parts.append(_ITEM.sub("", line).strip())
        before_blank = not stripped or (before_blank and indented_code)


def count(sentence: str) -> int:
    """The words of a sentence; signs and formulas without a letter or digit are none."""
    return sum(1 for word in sentence.split() if re.search(r"\w", word))


def private_terms(text: str) -> Iterator[tuple[int, str, str]]:
    """Every term of the list with its line and what to write instead; code is left out."""
    for block in (_FENCE, _COMMENT):
        text = block.sub(lambda found: "\n" * found[0].count("\n"), text)
    text = re.sub(r"(`+)(.+?)\1", lambda found: re.sub(r"\S", "x", found[0]), text)
    for term, better in yaml.safe_load(WORDS.read_text(encoding="utf-8"))["terms"].items():
        pattern = re.compile(r"\b" + re.sub(r"\s+", r"\\s+", term) + r"\b", re.IGNORECASE)
        for found in pattern.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].split()), better


def pages() -> list[Path]:
    single = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
    return [*single, *sorted((ROOT / "docs").rglob("*.md"))]


def faults(path: Path) -> list[str]:
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    found = [
        (line, f"{name}:{line}: {words} words, at most {LONGEST}: {sentence[:90]}...")
        for line, sentence in sentences(text)
        if (words := count(sentence)) > LONGEST
    ]
    found += [(line, f"{name}:{line}: '{term}': write {better}") for line, term, better in private_terms(text)]
    return [fault for _line, fault in sorted(found)]


def main(arguments: list[str]) -> int:
    found = [fault for path in ([Path(name).resolve() for name in arguments] or pages()) for fault in faults(path)]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
