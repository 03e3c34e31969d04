"""From the mesh and a ground truth to numbers."""

from __future__ import annotations

import json

from kiss3d_cli.core.stage import Context
from kiss3d_cli.geometry.evaluation import evaluate
from kiss3d_cli.geometry.load import read_mesh


def surface(context: Context) -> None:
    """Chamfer distance, F-score and more in the kiss3d protocol."""
    found = evaluate(
        read_mesh(context.inputs["refine/mesh.ply"]),
        read_mesh(context.inputs["ground_truth"]),
        points=context.settings["eval.points"],
        seed=context.settings["seed"],
        ground_truth_place="the ground truth",
    )
    context.warnings.extend(found.warnings)
    text = json.dumps(found.record(), indent=2, ensure_ascii=False) + "\n"
    (context.output / "metrics.json").write_text(text, encoding="utf-8")
