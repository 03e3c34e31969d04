"""The prose check finds long sentences and private terms, and leaves tables and code alone."""

from __future__ import annotations

import pytest

import check_prose

LONG = " ".join(["word"] * 36)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{LONG}.\n", [1]),
        (f"Short one. {LONG}\nand more over two lines.\n", [1]),
        (f"# Title\n\n- first item\n- {LONG}\n", [4]),
        (" ".join(["word"] * 20) + ". " + " ".join(["Word"] * 20) + ".", []),
        (" ".join(["word"] * 20) + " (arXiv, et al. 2020) " + " ".join(["word"] * 20), [1]),
        (f"# {LONG}\n\n| {LONG} |\n", []),
        (f"Before:\n\n```\n{LONG}\n```\n\n    {LONG}\n\n<!-- {LONG} -->\n", []),
        (f"Code counts as one word: `{LONG}`.", []),
        (f"[Links]({'x' * 10}) and 3 x 4 = 12 " + " ".join(["word"] * 28), []),
        (" ".join(["word"] * 20) + "\n- " + " ".join(["word"] * 20) + "\n1. " + " ".join(["word"] * 20), []),
    ],
)
def test_long_sentences(text, lines) -> None:
    found = [
        line for line, sentence in check_prose.sentences(text) if check_prose.count(sentence) > check_prose.LONGEST
    ]
    assert found == lines


def test_private_terms_are_found_with_their_line() -> None:
    text = "Fine.\n\nIt takes Video\nmemory, | `video memory` |\n"
    assert [(line, better) for line, _term, better in check_prose.private_terms(text)] == [(3, "VRAM")]


def test_the_command_tells_both(tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{LONG}.\n\nFp8 is demanded.\n", encoding="utf-8")
    assert check_prose.main([str(page)]) == 1
    assert "36 words" in (out := capsys.readouterr().out)
    assert "is required" in out
    page.write_text("Only fp8 checkpoints are accepted.\n", encoding="utf-8")
    assert check_prose.main([str(page)]) == 0


def test_there_are_pages_to_check() -> None:
    assert len(check_prose.pages()) > 15
