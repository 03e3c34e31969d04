"""Folders that come from elsewhere: what is planted in them is neither read nor written through, and nothing hangs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kiss3d_cli.core import files
from kiss3d_cli.core.errors import DamagedRun, from_exception
from kiss3d_cli.core.files import UnsafeFile
from patience import PATIENCE

PLANTS = ("symbolic link", "dangling link", "hard link", "pipe", "socket", "folder", "device", "link to itself")


def plant(kind: str, path: Path, victim: Path) -> None:
    """Put something that is no plain file at a name; a test that can't make it is skipped."""
    path.unlink(missing_ok=True)
    try:
        if kind == "symbolic link":
            path.symlink_to(victim)
        elif kind == "dangling link":
            path.symlink_to(victim.with_name("not there yet"))
        elif kind == "link to itself":
            path.symlink_to(path.name)
        elif kind == "hard link":
            path.hardlink_to(victim)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero: a reader never comes to its end
    except (OSError, AttributeError) as error:
        pytest.skip(f"no {kind} can be made here: {error}")


def soon(action: Callable[[], object]) -> object:
    """The result of something that must not wait for ever."""
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(action())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "it hangs"
    return outcome[0]


READS = {
    "read": lambda path: files.read_bytes(path, 100),
    "hash": files.sha256,
    "size": files.size_of,
    "copy": lambda path: files.copy_own(path, path.with_name("copy")),
}
WRITES = {
    "append": lambda path: files.append(path, b"x"),
    "write": lambda path: files.write_durably(path, b"x"),
    "create": lambda path: files.create(path).close(),
    "copy to": lambda path: files.copy_own(path.with_name("source"), path),
}


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("action", [*READS, *WRITES])
def test_what_is_planted_is_not_followed(tmp_path: Path, kind: str, action: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "run" / "record"
    path.parent.mkdir()
    victim.write_text("mine")
    path.with_name("source").write_text("source")
    plant(kind, path, victim)
    outcome = soon(lambda: (READS | WRITES)[action](path))
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not victim.with_name("not there yet").exists()
    if action in READS or action == "append":
        assert isinstance(outcome, UnsafeFile), outcome
        assert isinstance(from_exception(outcome), DamagedRun)
        assert from_exception(outcome).exit_code == 5
        assert str(path) in str(from_exception(outcome))
    elif kind != "folder":  # a name is replaced, whatever it was
        assert not isinstance(outcome, BaseException), outcome
        assert path.is_file()
        assert not path.is_symlink()
    assert [entry.name for entry in path.parent.iterdir() if ".partial" in entry.name] == []


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
def test_no_partial_file_has_a_name_that_can_be_foreseen(tmp_path: Path, kind: str) -> None:
    """Once it was `.NAME.partial`: whoever planted a link there had the file behind it overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".run.json.partial", ".report.html.partial", ".scores.csv.partial"):
        plant(kind, tmp_path / name, victim)
        files.write_durably(tmp_path / name.removeprefix(".").removesuffix(".partial"), b"new")
    with files.replacing(tmp_path / "turntable.gif") as partial:
        partial.write_bytes(b"GIF")
        assert partial.suffix == ".gif"
    assert victim.read_text(encoding="utf-8") == "mine"


def test_folders_on_the_way_are_no_links_either(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    (run / "stage").symlink_to(tmp_path / "outside")
    assert (run / "stage" / "a.txt").read_text(encoding="utf-8") == "secret"
    with pytest.raises(UnsafeFile, match="it is a link"):
        files.read_bytes(run / "stage" / "a.txt", 100, within=run)
    with pytest.raises(UnsafeFile, match="not in"):
        files.read_bytes(tmp_path / "outside" / "a.txt", 100, within=run)
    assert not files.is_safe(run / "stage" / "a.txt", within=run)


def test_a_file_that_the_user_names_may_be_a_link_but_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    with files.open_given(tmp_path / "link") as stream:
        assert stream.read() == b"x"
    for kind in ("pipe", "device", "folder"):
        plant(kind, tmp_path / kind, tmp_path / "real")

        def read(path: Path = tmp_path / kind) -> bytes:
            with files.open_given(path) as stream:
                return stream.read(10)

        assert isinstance(soon(read), OSError)


def test_large_files_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(101))
    with pytest.raises(files.TooLarge):
        files.read_bytes(tmp_path / "large", 100)
    for name in ("a\0b", "x" * 5000, "/".join(["x"] * 5000)):
        with pytest.raises(OSError, match=r".") as caught:
            files.read_bytes(tmp_path / name, 100)
        assert from_exception(caught.value) is not None
        assert not files.is_safe(tmp_path / name)


def test_many_writers_of_one_name_each_write_all_of_it(tmp_path: Path) -> None:
    """With one temporary name for all, 77 of 200 failed."""
    faults: list[BaseException] = []

    def write(letter: int) -> None:
        try:
            for _ in range(25):
                files.write_durably(tmp_path / "report.html", bytes([letter]) * 5000)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(65 + number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set((tmp_path / "report.html").read_bytes())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_kills_left_is_removed_when_nobody_can_be_writing_it(tmp_path: Path) -> None:
    old, new, mine, other = (
        tmp_path / f".{name}.{16 * '0'}.partial{end}"
        for name, end in (("report", ".html"), ("turntable", ".mp4"), ("run", ".json"), ("x", ""))
    )
    for path in (old, new, mine):
        path.write_text("half")
    other.mkdir()
    os.utime(old, (0, 0))
    files.remove_partials(tmp_path, ("run",))
    assert not old.exists()
    assert not mine.exists()
    assert new.exists()
    assert other.exists()


def test_folders_of_our_own_take_the_place_of_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "scratch").symlink_to(tmp_path / "outside")
    files.make_folder(tmp_path / "scratch")
    (tmp_path / "scratch" / "a").write_text("x")
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "file").write_text("x")
    files.make_folder(tmp_path / "file")
    assert (tmp_path / "file").is_dir()
