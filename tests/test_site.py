"""The site is built of docs/ without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("material", reason="needs the extra docs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target), *more]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")


def test_the_site_is_built(tmp_path) -> None:
    done = build(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'name="viewport"' in page  # a phone shows it at its own width
    assert "reference/settings.html" in page
    assert not [part for part in page.split('"') if part.startswith("http") and "fonts" in part]
    assert 'href="quickstart.html"' in page
    notebook = (tmp_path / "quickstart.html").read_text(encoding="utf-8")
    assert notebook.count('src="data:image/png;base64,') >= 5
    assert 'href="reference/settings.html"' in notebook


def test_every_page_is_in_the_menu() -> None:
    yaml = pytest.importorskip("yaml")
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def listed(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for part in inner for page in listed(part)]

    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {
        path.relative_to(ROOT / "docs").with_suffix(".md").as_posix() for path in (ROOT / "docs").rglob("*.ipynb")
    }
    assert set(listed(menu)) == pages
