"""What is in a folder is told, or why it can't be: never "nothing" for a folder that can't be read."""

import errno
import os

import pytest

from kiss3d_cli.core.errors import from_exception
from kiss3d_cli.core.folders import all_below, entries


@pytest.fixture
def tree(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "deep/er/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_what_is_there_in_order(tree):
    assert [path.name for path in entries(tree)] == [".hidden", "a.txt", "b.txt", "deep"]
    assert entries(tree, "*.txt") == [tree / "a.txt", tree / "b.txt"]
    assert all_below(tree) == sorted(tree.rglob("*"))
    assert all_below(tree, "*.txt") == [tree / "a.txt", tree / "b.txt", tree / "deep/er/c.txt"]


def test_no_folder_holds_nothing(tree):
    for listing in (entries, all_below):
        assert listing(tree / "absent") == []
        assert listing(tree / "a.txt") == []


def test_links_to_folders_are_named_but_not_followed(tree):
    (tree / "deep/loop").symlink_to(tree, target_is_directory=True)
    assert tree / "deep/loop" in all_below(tree)
    assert not any("loop" in path.parent.parts for path in all_below(tree))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO])
@pytest.mark.parametrize(("listing", "unreadable"), [(entries, "."), (all_below, "."), (all_below, "deep/er")])
def test_a_folder_that_cant_be_read_is_an_error(tree, monkeypatch, listing, unreadable, number):
    real = {name: getattr(os, name) for name in ("listdir", "scandir")}

    def guarded(name):
        def function(path="."):
            if os.path.normpath(path) == os.path.normpath(tree / unreadable):
                raise OSError(number, os.strerror(number), os.fspath(path))
            return real[name](path)

        return function

    for name in real:
        monkeypatch.setattr(os, name, guarded(name))
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        listing(tree)
    assert "can't be read" in str(from_exception(caught.value))
