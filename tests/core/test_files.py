"""Files that come to their place as a whole, and commands as they are typed; on Windows as well."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kiss3d_cli.core import files
from kiss3d_cli.core.shell import typed


def held(times: int, real: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    """What Windows does while a virus scanner reads what was just written."""

    def refuse(*args: object, **kwargs: object) -> object:
        calls.append(str(args[0]))
        if len(calls) <= times:
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        return real(*args, **kwargs)

    return refuse


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("times", [2, 99])
def test_on_windows_a_held_file_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, times: int
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    if kind == "file":
        source.write_text("new")
        target.write_text("old")
    else:
        source.mkdir()
    calls: list[str] = []
    monkeypatch.setattr(files, "_WAITS", (0.0,) * 4)
    monkeypatch.setattr(Path, "replace", held(times, Path.replace, calls))
    if times < 4:
        files.move(source, target)
        assert not source.exists()
        assert target.is_dir() if kind == "folder" else target.read_text(encoding="utf-8") == "new"
        assert len(calls) == times + 1
    else:
        with pytest.raises(PermissionError):
            files.move(source, target)
        assert len(calls) == 5


def test_elsewhere_a_refusal_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(files, "_WAITS", ())
    monkeypatch.setattr(Path, "replace", held(1, Path.replace, calls))
    with pytest.raises(PermissionError):
        files.move(tmp_path / "a", tmp_path / "b")
    assert len(calls) == 1


def test_removing_waits_too_and_spares_what_a_link_points_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link, folder = tmp_path / "real", tmp_path / "link", tmp_path / "folder"
    real.mkdir()
    (real / "kept").write_text("x")
    folder.mkdir()
    link.symlink_to(real)
    monkeypatch.setattr(files, "_WAITS", (0.0,) * 4)
    monkeypatch.setattr(shutil, "rmtree", held(2, shutil.rmtree, []))
    for path in (folder, link, tmp_path / "nothing"):
        files.remove(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real"]
    assert (real / "kept").read_text(encoding="utf-8") == "x"


def test_commands_are_quoted_for_the_shell_they_are_typed_into(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "outputs/a b"
    assert shlex.split(typed("kiss3d", "resume", path)) == ["kiss3d", "resume", path]
    monkeypatch.setattr(os, "name", "nt")
    assert typed("kiss3d", "resume", r"D:\My runs\a") == r'kiss3d resume "D:\My runs\a"'
    assert typed("kiss3d", "resume", r"outputs\a") == r"kiss3d resume outputs\a", "a backslash needs no quotes there"
