"""The page of a study of the latent space: each question, its pictures, its table, and this model's answer."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kiss3d_cli.training.lvsm_study import Finding

REPORT = "study.html"
ENLARGED = 2
"""Times that the small pictures are shown larger."""


def write_study(folder: Path, findings: Sequence[Finding], facts: dict[str, str]) -> Path:
    """Writes `<edit>.png` and `<edit>.csv` of each finding, and the page; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for found in findings:
        picture = np.asarray(cv2.resize(found.sheet, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_NEAREST))
        Image.fromarray(picture).save(folder / f"{found.name}.png")
        lines = ["edit,tokens,psnr,kept", *(f'"{r.edit}",{r.tokens},{r.psnr:.3f},{r.kept:.3f}' for r in found.rows)]
        (folder / f"{found.name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        parts.append(_section(found, picture, (folder / f"{found.name}.png").read_bytes()))
    head = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in facts.items())
    page = folder / REPORT
    page.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>The latent space of a view synthesis model</title>"
        "<style>body{font:15px system-ui,sans-serif;margin:2em auto;max-width:75em;color:#222}"
        "th{text-align:left}td,th{padding:.1em 1em .1em 0}img{max-width:100%}"
        "td.n{text-align:right;font-variant-numeric:tabular-nums}.columns{color:#666}</style>"
        f"<h1>The latent space of a view synthesis model</h1><table>{head}</table>"
        "<p>Scenes of objects that were never trained on, read from the four views of the ring. PSNR is of views "
        "that were not given, against the truth, and <i>kept</i> is that against what the unedited scene draws, "
        "where 100 is no change.</p>"
        f"{''.join(parts)}</html>",
        encoding="utf-8",
    )
    return page


def _section(found: Finding, picture: UInt8[np.ndarray, "H W 3"], png: bytes) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row.edit)}</td><td class=n>{row.tokens}</td><td class=n>{row.psnr:.2f}</td>"
        f"<td class=n>{row.kept:.2f}</td></tr>"
        for row in found.rows
    )
    return (
        f"<h2>{html.escape(found.question)}</h2><p>{html.escape(found.answer)}</p>"
        f"<p class=columns>{html.escape(' | '.join(found.columns))}</p>"
        f'<img width={picture.shape[1]} alt="{html.escape(found.name)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<table><tr><th>edit</th><th>tokens</th><th>PSNR, dB</th><th>kept, dB</th></tr>{rows}</table>"
    )
