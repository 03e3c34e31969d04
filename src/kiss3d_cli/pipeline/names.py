"""Names of run folders."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

NAME_BYTES = 120
"""Of a run's name in UTF-8; file systems take 255 for a folder with its time and the marks of a run in the making."""


GENERIC = frozenset({"picture", "image", "photo", "img", "input", "front", "render", "rgb"})
"""Stems that say nothing of what a picture shows."""


def picture_name(path: Path) -> str:
    """What a picture's run is called: its stem, and its folder's name before it where the stem is a generic one.

    The folder must have been typed: `robot/picture.png` is robot-picture, and `picture.png` is picture.
    """
    folder = path.parent.name
    return f"{folder}-{path.stem}" if path.stem.lower() in GENERIC and folder not in ("", "..") else path.stem


def run_name(text: str) -> str:
    """A file name's stem, or what the user typed, as the name of a folder."""
    joined = "".join(letter if _may_name(letter) else "-" for letter in unicodedata.normalize("NFC", text))
    name = re.sub(r"-{2,}", "-", joined).strip("-.\u200c\u200d")
    short = name.encode()[:NAME_BYTES].decode(errors="ignore")
    if short != name and _continues(name[len(short)]):
        # not within a letter and its marks
        short = short.rstrip("".join(letter for letter in short if _continues(letter)))[:-1]
    return short.rstrip("-.\u200c\u200d") or "run"


def _may_name(letter: str) -> bool:
    """Letters, digits, their marks (Hindi, Thai, accents that have no letter of their own) and joiners."""
    return letter in "_.-" or letter.isalnum() or _continues(letter)


def _continues(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "M" or letter in "\u200c\u200d"
