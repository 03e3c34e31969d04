"""From the final mesh and a ground truth, a mesh or a point cloud, to numbers."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from kiss3d_cli.methods.base import Context, Machine, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Seeded


class SurfaceSettings(Seeded):
    protocol: Literal["kiss3d", "kiss3dgen", "triposr", "zeroshape", "meshrcnn"] = "kiss3d"
    """How the meshes are normalised and compared; results of different protocols are not comparable."""
    align: Literal["protocol", "none", "yaw", "rigid", "similarity"] = "protocol"
    """Alignment of the mesh to the ground truth; `protocol` uses the protocol's own."""
    points: int | None = Field(None, ge=100, le=10_000_000)
    """Points sampled per surface; empty means the protocol's number."""
    render: bool = False
    """Also compare renderings of both meshes from eight sides."""


class Surface(Weightless[SurfaceSettings]):
    """The mesh measured by the chosen protocol."""

    stage, name, version = "eval", "surface", 2
    settings = SurfaceSettings
    reads = ("refine/mesh.ply", "ground_truth")
    takes = ("place/mesh.ply",)
    writes = ("metrics.json",)
    help = "compares points sampled on both surfaces"
    default = True

    def cost(self, settings: SurfaceSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=5, memory=0.2 * GIB)

    def work(self, settings: SurfaceSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.evaluation.files import evaluate_files

        made = "place/mesh.ply" if "place/mesh.ply" in context.inputs else "refine/mesh.ply"
        context.progress(0.0, "measuring")
        found = evaluate_files(
            context.inputs[made],
            context.inputs["ground_truth"],
            protocol=settings.protocol,
            alignment=None if settings.align == "protocol" else settings.align,
            points=settings.points,
            seed=settings.seed,
            render=settings.render,
            ground_truth_place="--gt",
        )
        context.warnings.extend(found.warnings)
        context.facts["protocol"] = found.protocol.name
        context.facts["chamfer_l1"] = found.distances.chamfer_l1
        context.facts.update({f"f_score_{score.threshold:g}": score.f_score for score in found.distances.f_scores})
        text = json.dumps(found.record(), indent=2, ensure_ascii=False)
        (context.output / "metrics.json").write_text(text + "\n", encoding="utf-8")
