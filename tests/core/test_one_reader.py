"""JSON and YAML have one reader, `core.records`; whoever needs another says why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kiss3d_cli
from kiss3d_cli.core import records
from kiss3d_cli.core.records import BadRecord, parse_json, read_json

SOURCE = Path(kiss3d_cli.__file__).parent
OTHERS = {
    "core/records.py": "the reader itself",
    "geometry/io/gltf/document.py": "files of other programs, whose extras may hold anything; checked there",
}


def _readers(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("json.loads", "json.load") or (node.value.id == "yaml" and "load" in node.attr):
                found.append(name)
            if name in ("OmegaConf.load", "ast.literal_eval"):
                found.append(name)
    return found


def test_nothing_else_reads_json_or_yaml():
    found = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if _readers(path)}
    assert found == set(OTHERS)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LIMIT", 100)
    path = tmp_path / "config.json"
    path.write_text("[" + "0," * 200 + "0]", encoding="utf-8")
    with pytest.raises(BadRecord, match="larger"):
        read_json(path)


def test_a_link_is_read_as_the_cache_of_the_hub_has_it(tmp_path):
    (tmp_path / "blob").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "config.json").symlink_to("blob")
    assert read_json(tmp_path / "config.json") == {"a": 1}


def test_headers_may_have_more_values_than_records():
    text = "[" + "0," * records.MOST + "0]"
    with pytest.raises(BadRecord, match="too many"):
        parse_json(text)
    assert len(parse_json(text, 2 * records.MOST)) == records.MOST + 1
