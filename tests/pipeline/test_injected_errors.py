"""The system fails at every call of a run, each time with another error; resumed, the run is as if nothing had been."""

from __future__ import annotations

import errno
import gc
import itertools

import pytest
import toy

from inject_errors import ERRORS, Injector, outcome


@pytest.fixture(autouse=True)
def _quick_collections():
    """The runner collects garbage after every stage; a test session has a million objects to go through each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_every_call_of_a_run_may_fail(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    folder = toy.create(whole)
    count = Injector(folder.path)
    with count.at_work():
        toy.run(folder)
    expected = toy.artifacts(folder)
    assert count.seen > 80
    turn = itertools.cycle([errno.EIO, errno.EACCES, errno.ENOSPC, *ERRORS])
    failed = 0
    for number in range(1, count.seen + 1):
        place = tmp_path / str(number)
        place.mkdir()
        folder = toy.create(place)
        injector = Injector(folder.path, number, next(turn))
        with injector.at_work():
            failed += outcome(lambda folder=folder: toy.run(folder)) != "done"
        toy.run(folder)
        assert toy.artifacts(folder) == expected, f"call {number}, {errno.errorcode[injector.error]}"
    assert failed > count.seen / 2


def test_every_call_of_a_creation_may_fail(tmp_path):
    runs = tmp_path / "runs"
    count = Injector(runs)
    with count.at_work():
        toy.create(tmp_path)
    turn = itertools.cycle(ERRORS)
    for number in range(1, count.seen + 1):
        place = tmp_path / str(number)
        place.mkdir()
        injector = Injector(place / "runs", number, next(turn))
        with injector.at_work():
            outcome(lambda place=place: toy.create(place))
        made = [path.name for path in (place / "runs").glob("*")] if (place / "runs").exists() else []
        assert all(not name.startswith(".") for name in made) or injector.number < count.seen, made


def test_every_call_of_a_resumption_may_fail(tmp_path):
    """Of a run that is done, so that the calls are those that read it; what was read well enough is not done again."""
    place = tmp_path / "whole"
    place.mkdir()
    folder = toy.create(place)
    toy.run(folder)
    expected = toy.artifacts(folder)
    count = Injector(folder.path)
    with count.at_work():
        toy.run(folder)
    assert count.seen > 40
    turn = itertools.cycle([errno.EIO, errno.ENOTDIR, errno.ENOENT, *ERRORS])
    for number in range(1, count.seen + 1):
        injector = Injector(folder.path, number, next(turn))
        with injector.at_work():
            outcome(lambda: toy.run(folder))
        toy.run(folder)
        assert toy.artifacts(folder) == expected, f"call {number}, {errno.errorcode[injector.error]}"
