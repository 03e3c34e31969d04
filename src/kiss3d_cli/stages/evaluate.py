"""From the final mesh and a ground truth to numbers."""

from __future__ import annotations

import json

import torch

from kiss3d_cli.core.stage import Context
from kiss3d_cli.evaluation.compare import evaluate
from kiss3d_cli.geometry.io.load import read_mesh


def surface(context: Context) -> None:
    """Measure the mesh by the chosen protocol."""
    settings = context.settings
    context.progress(0.0, "reading the meshes")
    prediction = read_mesh(context.inputs["refine/mesh.ply"], torch.float64)
    truth = read_mesh(context.inputs["ground_truth"], torch.float64)
    looks = None
    if settings["eval.render"]:
        looks = read_mesh(context.inputs["refine/mesh.ply"]), read_mesh(context.inputs["ground_truth"], textures=True)
    context.progress(0.2, "measuring")
    found = evaluate(
        prediction,
        truth,
        protocol=settings["eval.protocol"],
        alignment=None if settings["eval.align"] == "protocol" else settings["eval.align"],
        points=settings["eval.points"],
        seed=settings["seed"],
        looks=looks,
        prediction_place="refine/mesh.ply",
        ground_truth_place="--gt",
    )
    context.warnings.extend(found.warnings)
    context.facts["protocol"] = found.protocol.name
    context.facts["chamfer_l1"] = found.distances.chamfer_l1
    context.facts.update({f"f_score_{score.threshold:g}": score.f_score for score in found.distances.f_scores})
    text = json.dumps(found.record(), indent=2, ensure_ascii=False)
    (context.output / "metrics.json").write_text(text + "\n", encoding="utf-8")
