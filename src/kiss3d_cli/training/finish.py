"""The end of a training run: the weights to ship, and one page that shows how they came about."""

from __future__ import annotations

import base64
import contextlib
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kiss3d_cli.core.folders import entries
from kiss3d_cli.core.records import BadRecord, parse_json
from kiss3d_cli.training.checkpoints import read_checkpoint, under
from kiss3d_cli.training.log import LOG
from kiss3d_cli.training.task import Task

REPORT = "report.html"


@dataclass(frozen=True)
class Finished:
    """What a training run leaves."""

    weights: Path
    sha256: str
    report: Path


def finish(task: Task[Any], checkpoint: Path, folder: Path) -> Finished:
    """Exports the averaged weights of a checkpoint and writes the report."""
    found = read_checkpoint(checkpoint, task.name)
    averaged = under(found.tensors, "average.")
    weights = folder / f"{task.name}.safetensors"
    sha256 = task.export(weights, averaged)
    report = folder / REPORT
    facts = {
        "network": json.dumps(found.config),
        "parameters": f"{sum(value.numel() for value in averaged.values()):,}",
        "steps": f"{found.state.step:,}",
        "time": f"{found.state.seconds / 60:.0f} minutes",
        "weights": f"{weights.name}, {weights.stat().st_size / 1e6:.1f} MB, sha256 {sha256}",
    }
    report.write_text(_page(task, folder, facts), encoding="utf-8")
    return Finished(weights, sha256, report)


def _page(task: Task[Any], folder: Path, facts: dict[str, str]) -> str:
    rows = _rows(folder / LOG)
    losses = [(row["step"], row) for row in rows if task.leading in row]
    held = [(row["step"], row["held_out"]) for row in rows if "held_out" in row]
    curves = {
        f"{task.leading}, training": _smoothed([(step, row[task.leading]) for step, row in losses]),
        f"{task.leading}, held out": [(step, row[task.leading]) for step, row in held],
    }
    if task.baseline is not None:
        curves[f"{task.baseline} alone, held out"] = [(step, row[task.baseline]) for step, row in held]
    # a run that an earlier version began has not logged what was added since
    others = {key: _smoothed([(step, row[key]) for step, row in losses if key in row]) for key in task.others}
    sheets = entries(folder, "sheet-*.png")
    shown = [sheets[i] for i in sorted({0, len(sheets) // 2, len(sheets) - 1})] if sheets else []
    parts = [f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items()]
    pictures = "".join(
        f"<figure><figcaption>step {int(path.stem.split('-')[1]):,}: {html.escape(task.legend)}</figcaption>"
        f'<img src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></figure>'
        for path in shown
    )
    title = f"Training: kiss3d train {task.name}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<style>body{font:15px system-ui,sans-serif;margin:2em auto;max-width:75em;color:#222}"
        "th{text-align:left;padding-right:1em}img{max-width:100%}figure{margin:1em 0}"
        "svg{width:100%;height:auto}</style>"
        f"<h1>{title}</h1><table>{''.join(parts)}</table>"
        f"<h2>{html.escape(task.measure)}</h2>{_chart(curves)}"
        f"<h2>Other losses, training</h2>{_chart(others)}<h2>Objects never trained on</h2>{pictures}</html>"
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(BadRecord):  # the line that a kill cut off
            rows.append(parse_json(line))
    return rows


def _smoothed(points: list[tuple[int, float]], most: int = 300) -> list[tuple[int, float]]:
    """At most so many points, each the mean of its neighbours."""
    if not points:
        return []
    groups = np.array_split(np.array(points, float), min(most, len(points)))
    return [(int(group[:, 0].mean()), float(group[:, 1].mean())) for group in groups]


def _chart(curves: dict[str, list[tuple[int, float]]]) -> str:
    """Lines over steps, as SVG."""
    colors = ("#1f6fb2", "#d1495b", "#888888", "#2e8b57")
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return "<p>Nothing was logged.</p>"
    width, height, left, bottom = 900, 320, 60, 30
    last, top = max(step for step, _ in points) or 1, max(value for _, value in points) * 1.05 or 1

    def at(step: float, value: float) -> str:
        x = left + step / last * (width - left - 10)
        return f"{x:.1f},{(height - bottom) * (1 - value / top):.1f}"

    drawn = []
    for number, (name, curve) in enumerate(curves.items()):
        color = colors[number % len(colors)]
        line = " ".join(at(*point) for point in curve)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        final = f"{curve[-1][1]:.4f}" if curve else "not measured"
        drawn.append(f'<text x="{left + 20}" y="{20 + 16 * number}" fill="{color}">{html.escape(name)}: {final}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = (height - bottom) * (1 - share)
        drawn.append(f'<line x1="{left}" x2="{width}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="0" y="{y + 12 if share == 1 else y}" fill="#666">{share * top:.3f}</text>')
    drawn.append(f'<text x="{left}" y="{height - 8}" fill="#666">0 to {last:,} steps</text>')
    return f'<svg viewBox="0 0 {width} {height}" font-size="12">{"".join(drawn)}</svg>'
