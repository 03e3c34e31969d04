"""A table of many evaluations with means, medians and confidence intervals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Score:
    """One result.

    Attributes:
        name: of the result.
        prediction, ground_truth: where the two meshes are.
        values: by column; None where a metric is not defined.
        error: why there are no values, else None.
        record: all that was recorded, for the JSON table.
    """

    name: str
    prediction: str
    ground_truth: str
    values: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ColumnSummary:
    """One metric over all results that have it.

    Attributes:
        count: results with a value.
        mean, median: of these.
        low, high: 95 % bootstrap interval of the mean; None for fewer than two values.
    """

    count: int
    mean: float
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ScoreTable:
    """Many results with their summary.

    Attributes:
        heading: what was measured and how, one line.
        scores: in the order of their names.
        summary: by column, in the columns' order.
        unpaired: what was left out, a sentence each.
        seed: of the bootstrap.
    """

    heading: str
    scores: tuple[Score, ...]
    summary: Mapping[str, ColumnSummary]
    unpaired: tuple[str, ...]
    seed: int

    def to_csv(self) -> str:
        """One line for each result, then the mean, the median and the interval's two ends."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", "prediction", "ground_truth", *self.summary, "error"])
        for score in self.scores:
            values = [_plain(score.values.get(column)) for column in self.summary]
            writer.writerow([score.name, score.prediction, score.ground_truth, *values, score.error or ""])
        for label in ("mean", "median", "low", "high"):
            writer.writerow([label, "", "", *(_plain(getattr(entry, label)) for entry in self.summary.values()), ""])
        return text.getvalue()

    def to_json(self) -> str:
        """Everything, with the full record of each result."""
        table = {
            "schema_version": 1,
            "heading": self.heading,
            "summary": {name: asdict(entry) for name, entry in self.summary.items()},
            "interval": {"kind": "percentile bootstrap of the mean", "confidence": CONFIDENCE, "resamples": RESAMPLES},
            "seed": self.seed,
            "unpaired": list(self.unpaired),
            "scores": [asdict(score) for score in self.scores],
        }
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        lines = [self.heading, "", _row(["", *self.summary]), _row(["---", *("---:" for _ in self.summary)])]
        measured = [score for score in self.scores if score.error is None]
        lines += [_row([s.name, *(_short(s.values.get(column)) for column in self.summary)]) for s in measured]
        lines.append(_row(["**mean**", *(_short(entry.mean) for entry in self.summary.values())]))
        intervals = (
            "" if entry.low is None else f"{_short(entry.low)} to {_short(entry.high)}"
            for entry in self.summary.values()
        )
        lines.append(_row(["95 % interval", *intervals]))
        lines.append(_row(["median", *(_short(entry.median) for entry in self.summary.values())]))
        lines.append(_row(["results", *(str(entry.count) for entry in self.summary.values())]))
        failed = [f"- {score.name}: {score.error}" for score in self.scores if score.error is not None]
        if failed:
            lines += ["", "Not measured:", *failed]
        if self.unpaired:
            lines += ["", "Not paired:", *(f"- {sentence}" for sentence in self.unpaired)]
        return "\n".join(lines) + "\n"


def make_table(heading: str, scores: Sequence[Score], unpaired: Sequence[str] = (), seed: int = 0) -> ScoreTable:
    """Sort the results by name and sum up every column."""
    ordered = tuple(sorted(scores, key=lambda score: score.name))
    columns = dict.fromkeys(column for score in ordered for column in score.values)
    summary = {}
    for column in columns:
        known = [score.values.get(column) for score in ordered]
        values = [value for value in known if value is not None]
        if values:
            summary[column] = summarise(values, seed)
    return ScoreTable(heading, ordered, summary, tuple(unpaired), seed)


def summarise(values: Sequence[float], seed: int = 0) -> ColumnSummary:
    """Mean, median and the mean's percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: at least one.
        seed: of the resampling.
    """
    array = np.sort(np.asarray(values, dtype=np.float64))  # sorted, so that the order of the files does not matter
    low = high = None
    if len(array) > 1:
        generator = np.random.default_rng(seed)
        at_once = max(1, _AT_ONCE // len(array))
        means = np.concatenate(
            [
                array[generator.integers(0, len(array), (min(at_once, RESAMPLES - done), len(array)))].mean(1)
                for done in range(0, RESAMPLES, at_once)
            ]
        )
        edge = (1 - CONFIDENCE) / 2
        low, high = (float(value) for value in np.quantile(means, [edge, 1 - edge]))
    return ColumnSummary(len(array), float(array.mean()), float(np.median(array)), low, high)


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
