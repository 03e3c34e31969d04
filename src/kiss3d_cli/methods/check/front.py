"""The final mesh against the picture that it was made from."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

from kiss3d_cli.methods.base import Context, Machine, Settings, Weightless
from kiss3d_cli.methods.cost import GIB, Cost, Surroundings
from kiss3d_cli.methods.shared import Cameras

FACTS = "check"
"""Under which the numbers stand in the manifest."""


class Reconstruction(Settings):
    section: ClassVar[str] = "reconstruct"

    method: str
    resolution: int


class Refinement(Settings):
    section: ClassVar[str] = "refine"

    integrate: bool
    steps: int
    texture: bool
    texture_size: int


class FrontSettings(Reconstruction, Refinement, Cameras):
    """Where the camera stands, and how the mesh was made: advice names no setting that did nothing."""

    section: ClassVar[str] = "check"


class Front(Weightless[FrontSettings]):
    """The front view at the picture's resolution, and what is wrong with the surface; below limits it is said."""

    stage, name, version = "check", "front", 2
    settings = FrontSettings
    reads = ("preprocess/image_rgba.png", "preprocess/mask.png", "refine/mesh.ply", "refine/mesh.glb")
    writes = ("check.json",)
    help = "compares the rendered front with the picture"
    default = True

    def cost(self, settings: FrontSettings, around: Surroundings) -> Cost:
        return Cost(host_seconds=1.5, memory=0.2 * GIB)

    def work(self, settings: FrontSettings, machine: Machine, context: Context) -> None:
        from kiss3d_cli.evaluation.front_check import check_front
        from kiss3d_cli.evaluation.judgement import LIMITS, Route, judge
        from kiss3d_cli.geometry.cameras import bundle_cameras
        from kiss3d_cli.geometry.io.load import read_mesh
        from kiss3d_cli.geometry.io.textured import read_textured_glb, without_seams
        from kiss3d_cli.image.png import read_png

        context.progress(0.0, "reading the mesh")
        textured = read_textured_glb(context.inputs["refine/mesh.glb"])
        if textured is None:
            mesh, texture = read_mesh(context.inputs["refine/mesh.ply"]), None
        else:
            mesh, texture = without_seams(textured[0]), textured[1]
        context.progress(0.3, "comparing")
        found = check_front(
            mesh,
            read_png(context.inputs["preprocess/image_rgba.png"])[..., :3],
            read_png(context.inputs["preprocess/mask.png"]) > 127,
            bundle_cameras(settings.radius)[[0]],
            texture,
        )
        route = Route(
            drawn=settings.method == "lrm",
            resolution=settings.resolution if settings.method in ("lrm", "hull") else None,
            integrate=settings.integrate,
            steps=settings.steps,
            texture=settings.texture_size if settings.texture else None,
        )
        said = judge(found, route)
        record = {**dataclasses.asdict(found), "within_limits": said is None, "limits": LIMITS}
        context.facts[FACTS] = record
        if said is not None:
            context.warnings.append(said)
        (context.output / "check.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
