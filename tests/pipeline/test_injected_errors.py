"""The system fails at every call of a run, each time with another error; resumed, the run is as if nothing had been."""

from __future__ import annotations

import errno
import itertools
import os
import re
from pathlib import Path

import pytest
import toy

import kiss3d_cli
from inject_errors import ERRORS, Injector, outcome

SOURCES = Path(kiss3d_cli.__file__).parent
TOLD_APART = sorted(
    {
        getattr(errno, name)
        for path in SOURCES.rglob("*.py")
        for name in re.findall(r"\berrno\.(E[A-Z0-9]+)", path.read_text(encoding="utf-8"))
    }
    | {number for number in errno.errorcode if type(OSError(number, os.strerror(number))) is not OSError}
    - {errno.EINTR}
)
"""Errors that kiss3d or Python treats in a way of its own; all others take the same way as EIO in the same place."""


def undisturbed(tmp_path: Path) -> tuple[int, dict[str, str]]:
    """How many calls a run makes, and what it makes."""
    whole = tmp_path / "whole"
    whole.mkdir()
    folder = toy.create(whole)
    count = Injector(folder.path)
    with count.at_work():
        toy.run(folder)
    return count.seen, toy.artifacts(folder)


def test_every_call_of_a_run_may_fail(tmp_path):
    calls, expected = undisturbed(tmp_path)
    assert calls > 80
    turn = itertools.cycle([errno.EIO, errno.EACCES, errno.ENOSPC, *ERRORS])
    failed = 0
    for number in range(1, calls + 1):
        place = tmp_path / str(number)
        place.mkdir()
        folder = toy.create(place)
        injector = Injector(folder.path, number, next(turn))
        with injector.at_work():
            failed += outcome(lambda folder=folder: toy.run(folder)) != "done"
        toy.run(folder)
        assert toy.artifacts(folder) == expected, f"call {number}, {errno.errorcode[injector.error]}"
    assert failed > calls / 2


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("number", TOLD_APART, ids=errno.errorcode.get)
def test_every_call_of_a_run_may_fail_with_any_error_that_is_told_apart(tmp_path, number):
    assert 25 < len(TOLD_APART) < len(ERRORS)
    calls, expected = undisturbed(tmp_path)
    for call in range(1, calls + 1):
        place = tmp_path / str(call)
        place.mkdir()
        folder = toy.create(place)
        with Injector(folder.path, call, number).at_work():
            outcome(lambda folder=folder: toy.run(folder))
        toy.run(folder)
        assert toy.artifacts(folder) == expected, f"call {call}"


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
