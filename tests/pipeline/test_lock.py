"""Who works in a run folder: asked without disturbing anyone, on file systems with and without locks."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from kiss3d_cli.core.errors import RunInUse
from kiss3d_cli.core.files import UnsafeFile
from kiss3d_cli.pipeline import lock
from kiss3d_cli.pipeline.lock import HOLDER, LOCK, is_locked, locked
from patience import PATIENCE

FORK = multiprocessing.get_context("fork")


def hold(folder: Path, told) -> None:
    with locked(folder):
        told.send("ready")
        told.poll(PATIENCE)


@pytest.fixture
def other(tmp_path):
    """Another process that works in the folder until it is told."""
    mine, its = FORK.Pipe()  # an Event waits for ever for a process that was killed
    process = FORK.Process(target=hold, args=(tmp_path, its))
    process.start()
    assert mine.recv() == "ready"
    yield process
    mine.send("done")
    process.join()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def no_locks(request, monkeypatch):
    """A file system that knows no locks."""

    def refuse(_descriptor):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(lock, "_take", refuse)
    monkeypatch.setattr(lock, "_is_taken", refuse)


def test_asking_does_not_take_the_lock(tmp_path):
    """When it did, 372 of 3,000 attempts to lock beside it failed."""
    with locked(tmp_path):
        pass
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            is_locked(tmp_path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(300):
            with locked(tmp_path):
                assert is_locked(tmp_path), "also of this process's own lock"
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert not is_locked(tmp_path)


def test_a_held_lock_is_seen_and_refused(tmp_path, other):
    assert is_locked(tmp_path)
    with pytest.raises(RunInUse, match=f"process {other.pid}"), locked(tmp_path):
        pass
    assert is_locked(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert not is_locked(tmp_path), "a lock goes with its process"


def test_a_new_run_without_locks_is_not_in_use(tmp_path, no_locks):
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        assert json.loads((tmp_path / HOLDER).read_text(encoding="utf-8"))["pid"] == os.getpid()
        with pytest.raises(RunInUse, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
    assert not is_locked(tmp_path)
    assert not (tmp_path / HOLDER).exists()


def test_without_locks_a_dead_process_holds_nothing(tmp_path, no_locks, other):
    assert is_locked(tmp_path)
    with pytest.raises(RunInUse), locked(tmp_path):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert (tmp_path / HOLDER).exists()
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass


def test_without_locks_another_host_is_believed(tmp_path, no_locks):
    (tmp_path / HOLDER).write_text(json.dumps({"pid": 1, "host": "h" * 70, "started": 0.0}))
    with pytest.raises(RunInUse, match=r"on h{64}") as caught, locked(tmp_path):
        pass
    assert f"remove {tmp_path / HOLDER}" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "host": 1}', '{"pid": 1e999}', "[" * 9999])
def test_a_strange_lock_file_is_only_a_message_less(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    (tmp_path / HOLDER).write_text(text)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass


def test_a_planted_lock_destroys_nothing(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for make in ("symlink_to", "hardlink_to"):
        (tmp_path / LOCK).unlink(missing_ok=True)
        getattr(tmp_path / LOCK, make)(victim)
        with pytest.raises(UnsafeFile), locked(tmp_path):
            pass
        assert not is_locked(tmp_path)
    assert victim.read_text(encoding="utf-8") == "mine"
