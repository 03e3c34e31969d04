"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 piece`, `2 pieces`, `12,000 faces`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
