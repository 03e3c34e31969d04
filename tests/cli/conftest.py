from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import pytest
import typer.testing
from typer.testing import CliRunner

from kiss3d_cli.cli.app import app
from kiss3d_cli.report import run_report
from pictures import SMALL, draw_figure


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


_command = functools.cache(typer.main.get_command)
"""Made of the same functions and annotations each time: 0.04 s of every call."""


def call(*arguments: object) -> Answer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "_DRAWING", 64)  # every run ends with a report, which cost as much as its work
        patch.setattr(typer.testing, "_get_command", _command)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def small_settings() -> list[str]:
    return [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture
def kiss3d():
    return call


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    return draw_figure(tmp_path_factory.mktemp("pictures") / "figure.png")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, picture) -> dict:
    """One whole draft run; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("runs")
    answer = call("run", picture, "--preset", "draft", "--out", out, *small_settings(), "--json")
    assert answer.code == 0, answer.err
    return answer.json
