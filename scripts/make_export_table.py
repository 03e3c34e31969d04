"""Writes the table of targets into docs/export.md: python scripts/make_export_table.py"""

from __future__ import annotations

from pathlib import Path

from kiss3d_cli.export.targets import table

PAGE = Path(__file__).parents[1] / "docs" / "export.md"
BEGIN, END = "<!-- targets -->\n", "<!-- end of targets -->\n"


def with_table(text: str) -> str:
    """The page with the table of today between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
