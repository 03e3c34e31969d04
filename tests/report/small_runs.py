"""Runs to report on: small, whole, with everything that a report can show."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import trimesh

from kiss3d_cli.geometry.io.export import write_mesh
from kiss3d_cli.geometry.mesh import Mesh
from kiss3d_cli.pipeline import launch
from kiss3d_cli.pipeline.inputs import given
from kiss3d_cli.pipeline.run_folder import RunFolder
from pictures import QUICK, draw_figure

CAPTION = '</script></blockquote><img src=x onerror="document.title=\'taken over\'"><b>bold</b> & "quoted"'
"""What a caption must not do to the page."""


def small_run(out: Path, *settings: str, truth: bool = True, until: str | None = None) -> RunFolder:
    """A draft run of the drawn figure, measured against an egg that is about as large."""
    out.mkdir(parents=True, exist_ok=True)
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices = torch.from_numpy(ball.vertices * [0.5, 0.8, 0.4]).float()
    write_mesh(out / "egg.ply", Mesh(vertices, torch.from_numpy(ball.faces.copy()).long()))
    request = launch.Request(
        given(picture=draw_figure(out / "figure.png"), ground_truth=out / "egg.ply" if truth else None),
        preset="draft",
        settings=(*QUICK, "eval.points=2000", f"caption.text={json.dumps(CAPTION)}", *settings),
        out=out / "runs",
        until=until,
        command="kiss3d run figure.png",
    )
    return launch.start(launch.prepare(request)).folder
