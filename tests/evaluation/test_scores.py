"""The table of many evaluations."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from kiss3d_cli.evaluation import scores
from kiss3d_cli.evaluation.scores import Score, make_table, summarise

SCORES = [
    Score("b", "b.obj", "t/b.obj", {"chamfer": 0.2, "iou": None}),
    Score("a", "a.obj", "t/a.obj", {"chamfer": 0.1, "iou": 0.5}),
    Score("c|d", "c.obj", "t/c.obj", {"chamfer": 0.6, "iou": 0.7}),
    Score("z", "z.obj", "t/z.obj", error="z.obj: broken"),
]


def test_a_drawn_table() -> None:
    table = make_table("three of four", SCORES, ["x: there is no result for this ground truth"])
    assert [score.name for score in table.scores] == ["a", "b", "c|d", "z"]
    chamfer, iou = table.summary["chamfer"], table.summary["iou"]
    assert (chamfer.count, chamfer.mean, chamfer.median) == (3, pytest.approx(0.3), 0.2)
    assert (iou.count, iou.mean, iou.median) == (2, pytest.approx(0.6), pytest.approx(0.6))
    lines = table.to_markdown().splitlines()
    assert lines[:5] == [
        "three of four",
        "",
        "|  | chamfer | iou |",
        "| --- | ---: | ---: |",
        "| a | 0.1000 | 0.5000 |",
    ]
    assert lines[5:7] == ["| b | 0.2000 |  |", "| c\\|d | 0.6000 | 0.7000 |"]
    assert lines[7] == "| **mean** | 0.3000 | 0.6000 |"
    assert "- z: z.obj: broken" in lines
    assert "- x: there is no result for this ground truth" in lines
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["name"] for row in rows] == ["a", "b", "c|d", "z", "mean", "median", "low", "high"]
    assert float(rows[4]["chamfer"]) == chamfer.mean
    assert rows[1]["iou"] == ""
    assert rows[3]["error"] == "z.obj: broken"
    loaded = json.loads(table.to_json())
    assert loaded["summary"]["iou"]["count"] == 2
    assert loaded["unpaired"] == ["x: there is no result for this ground truth"]
    assert loaded["scores"][0]["values"] == {"chamfer": 0.1, "iou": 0.5}


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = summarise(values.tolist())
    # the bootstrap of a mean of many values is close to the normal interval
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert summarise(values[::-1].tolist()) == found  # the order of the files does not matter
    assert summarise(values.tolist(), seed=1) != found


def test_two_values_by_hand_and_one_has_no_interval() -> None:
    found = summarise([1.0, 3.0])
    assert (found.low, found.high) == (1.0, 3.0)  # a quarter of the resamples each is all 1 or all 3
    single = summarise([2.0])
    assert (single.mean, single.median, single.low, single.high) == (2, 2, None, None)


def test_more_results_than_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_AT_ONCE", 70_000)
    found = summarise([0.0, 1.0] * 200)
    assert found.low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=3e-3)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=3e-3)
