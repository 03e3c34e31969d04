"""Weights are known by their content: what leaves it alone leaves finished stages alone."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from kiss3d_cli.core.cache import cache_folder
from kiss3d_cli.models.store import identity
from kiss3d_cli.models.store.identity import content_identity
from kiss3d_cli.models.store.locate import find
from kiss3d_cli.models.store.registry import lookup

LARGE, SMALL = b"weights", b"{}"
SHA256 = hashlib.sha256(LARGE).hexdigest()
GIT = hashlib.sha1(b"blob 2\0{}").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "models" / lookup("florence2").repository
    home.mkdir(parents=True)
    (home / "model.safetensors").write_bytes(LARGE)
    for name in ("config.json", "tokenizer.json"):
        (home / name).write_bytes(SMALL)
    return home


def identified(root: Path) -> str:
    found = find(lookup("florence2"), root)
    assert found is not None
    return found.identity


def test_neither_a_touch_nor_a_copy_changes_anything(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    before = identified(root)
    os.utime(folder / "model.safetensors", (1, 1))
    assert identified(root) == before
    shutil.copytree(root, tmp_path / "other")
    assert identified(tmp_path / "other") == before
    (folder / "model.safetensors").write_bytes(b"others!")
    os.utime(folder / "model.safetensors", (1, 1))
    assert identified(root) != before, "of the same size and, to the second, the same time"


def test_the_cache_of_the_hub_and_a_folder_agree(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name, content in ((SHA256, LARGE), (GIT, SMALL)):
        (blobs / name).write_bytes(content)
    link = tmp_path / "link.safetensors"
    link.symlink_to(blobs / SHA256)
    assert content_identity(link) == content_identity(folder / "model.safetensors") == SHA256
    assert content_identity(blobs / GIT) == content_identity(folder / "config.json") == GIT


def test_a_file_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "model.safetensors"
    assert content_identity(path) == SHA256
    monkeypatch.setattr(identity, "_content_hash", lambda *_arguments: "again")
    assert content_identity(path) == SHA256
    os.utime(path, (1, 1))
    assert content_identity(path) == "again"
    (cache_folder() / "hashes.json").write_text("[" * 9999)
    assert content_identity(path) == "again", "notes that can't be read are no notes"


def test_what_the_hubs_client_noted_counts_until_the_file_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_content_hash", lambda *_arguments: "hashed")
    path = folder / "model.safetensors"
    note = folder / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'a' * 40}\n{SHA256}\n{path.stat().st_mtime}\n")
    assert content_identity(path) == SHA256
    os.utime(path, (4e9, 4e9))
    assert content_identity(path) == "hashed"
    for text in ("", "a\nb\nc\n", f"a\n{SHA256}\nnan\n", "x" * 5000):
        note.write_text(text)
        assert content_identity(path) == "hashed"
