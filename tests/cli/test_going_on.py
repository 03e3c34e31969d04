"""What a stopped command says about how it goes on: only runs go on by `kiss3d resume`."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import call
from kiss3d_cli.training import data


def test_data_that_was_stopped_goes_on_by_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_given: object, **_named: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "make_shards", stopped)
    answer = call("train", "data", "--out", tmp_path / "views", "--shards", 1)
    assert answer.code == 130
    assert answer.err.splitlines() == ["kiss3d: interrupted", "  try: the same command goes on with what is left"]
