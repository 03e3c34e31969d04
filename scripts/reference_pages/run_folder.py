"""docs/reference/run_folder.md: what the methods declare to read and write, with a sentence for every file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kiss3d_cli.core.manifest import MANIFEST
from kiss3d_cli.pipeline.inputs import kinds
from kiss3d_cli.pipeline.lock import HOLDER, LOCK
from kiss3d_cli.pipeline.run_folder import LOG
from kiss3d_cli.pipeline.run_record import RUN
from kiss3d_cli.pipeline.stages import Stage, stages
from reference_pages import sentence, table

SIDES = ("right", "back", "left")
VIEWS = ("front", *SIDES)

FILES = {
    "preprocess/image.png": "The object, cut out, centred and scaled, on white.",
    "preprocess/image_rgba.png": "The same with an alpha channel.",
    "preprocess/mask.png": "The object's mask: white inside, black outside.",
    **{f"preprocess/{side}_image.png": f"The {side} picture (`--{side}`), cut out, on white." for side in SIDES},
    **{f"preprocess/{side}_image_rgba.png": "The same with an alpha channel." for side in SIDES},
    **{f"preprocess/{side}_mask.png": "Its mask." for side in SIDES},
    "preprocess/window.json": "`left`, `top` and `side` of the part of the picture that is framed, in its pixels.",
    "preprocess/mesh.ply": "The mesh of `--mesh` in the world frame, closed and remeshed.",
    "preprocess/frame.json": "The transform between the mesh of `--mesh` and the world frame.",
    "caption/caption.json": "`caption`, the text; `source`, the method that wrote it; and what that method measured.",
    **{f"sides/{view}_rgba.png": f"The {view} picture, registered to the bundle's camera." for view in VIEWS},
    **{f"multiview/{view}.png": f"The {view} view, on white." for view in VIEWS},
    "multiview/grid.png": "The four views in one picture, two by two.",
    "multiview/surface.ply": "The surface that the views were rendered from.",
    "reference/reference_bundle.png": "The 2x4 reference bundle: four RGB views above four normal maps.",
    "reference/mesh.ply": "The mesh that the reference bundle shows.",
    "prompt/prompt.safetensors": "Text embeddings: `t5`, the token states, and `clip`, the pooled state.",
    "prompt/redux.safetensors": "`redux`: the image tokens of FLUX.1 Redux; no tokens if Redux is off.",
    "bundle/bundle.png": "The 3D bundle: four RGB views above four normal maps.",
    "reconstruct/mesh.ply": "The reconstructed mesh, from which the refinement starts.",
    "refine/mesh.glb": "**The result**: textured mesh in the world frame, y up, front +z.",
    "refine/mesh.obj": "The result as OBJ.",
    "refine/mesh.ply": "The result as PLY, with vertex colours.",
    "check/check.json": "The front view against the input picture: mask IoU, PSNR, pieces, mesh defects, limits.",
    "place/mesh.glb": "The result in the frame and units of the mesh of `--mesh`.",
    "place/mesh.obj": "The same as OBJ.",
    "place/mesh.ply": "The same as PLY, with vertex colours.",
    "export/export.json": "What was written, for which target ([its keys](json.md#kiss3d-export)).",
    "eval/metrics.json": "The evaluation against the ground truth ([its keys](json.md#kiss3d-eval)).",
}
"""A sentence for every file that a method declares."""
MORE = {
    "bundle": {"control_MODE.png": "The conditioning picture of a ControlNet mode."},
    "refine": {
        "mesh.mtl": "The material of `mesh.obj`, if it has a texture.",
        "mesh.png": "The texture of `mesh.obj`, if it has one.",
    },
    "place": {
        "mesh.mtl": "The material of `mesh.obj`, if it has a texture.",
        "mesh.png": "The texture of `mesh.obj`, if it has one.",
    },
    "export": {"mesh.*": "The mesh in the format of the target, and the files that go with it."},
}
"""Files that depend on what a run finds, and that methods therefore don't declare."""
OWN = {
    RUN: "What was asked for: inputs with hashes, the resolved configuration, device, library versions, commands.",
    LOG: "Every event of the run, one JSON object per line.",
    "report.html": "The [report](../report.md), in one file that opens from disk.",
    LOCK: "The lock that keeps two processes from working on one run. It stays after the run and may be deleted.",
    HOLDER: "The same where the file system has no locks.",
    "turntable.mp4": "The film of `kiss3d report --turntable` (`turntable.gif` without ffmpeg).",
}

INTRO = """# Files of a run folder

A run is one folder, `outputs/NAME-YYYYMMDD-HHMMSS/`. It holds copies of the inputs, one folder per stage and
the records that let any failure be resumed. `kiss3d status RUN_DIR` compares the files with their records.

The frames, the bundle's layout and the encoding of normals are described in [conventions](../conventions.md).
"""
BETWEEN = """
Every finished stage also has a `manifest.json` ([its keys](json.md#manifestjson)). It records the stage's key,
its settings, the hashes of everything it read and wrote, and the identities of the models. It also has start, end,
seconds, peak memory, warnings and measurements.

## While a stage runs, and after it failed

| name | what it is |
| --- | --- |
| `.STAGE.partial/` | The stage at work. One rename turns it into the finished folder, its manifest written last. |
| `.STAGE.old/` | The result that is being replaced. It exists only between two renames. |
| `.STAGE.scratch/` | Checkpoints within a stage (Flux latents, for example), from which the next attempt continues. |
| `STAGE.failed/` | What a failed attempt left, with `error.json`: cause, hint, exit code and traceback. |

Folders made before stages lost their numbers (`07-refine/`) keep their names and can still be resumed.

## Many runs at once

`kiss3d run a.png b.png ...` and `kiss3d run --dataset ROOT` put run folders into one folder and add:

| file | what it is |
| --- | --- |
| `runs_report.json` | The status of every run, rewritten as runs end. |
| `runs.md` | The same as a table. |
| `index.html` | A page of all runs. |
| `scores.csv`, `scores.json`, `scores.md` | The metrics of all runs, with mean, median and confidence interval. |
| `summary.json` | The best run of every item by Chamfer L1. |
| `mesh.glb`, `metrics.json` | A copy of the best run's, where all runs are of one item. |
"""


def page() -> str:
    parts = [INTRO, "## Inputs\n", table(("file", "given by", "what it is"), _inputs())]
    parts += ["\n## Records\n", table(("file", "what it is"), [(f"`{name}`", text) for name, text in OWN.items()])]
    parts.append("\n## Stages, in their order\n")
    for stage in stages():
        parts.append(f"### {stage.name}/\n")
        parts.append(table(("file", "what it is", "written by"), _files(stage)) + "\n")
        parts.append(table(("method", "reads", "also reads, if there"), _readings(stage)) + "\n")
    parts.append(BETWEEN)
    return "\n".join(parts)


def declared() -> dict[str, list[str]]:
    """Every file that a method may declare to write, as `stage/file`, with the methods that do."""
    found: dict[str, list[str]] = {}
    for stage in stages():
        for name, method in stage.methods.items():
            for path in method.all_writes(tuple(method.writes_for)):
                found.setdefault(f"{stage.name}/{path}", []).append(name)
    return found


def _inputs() -> Iterator[tuple[str, str, str]]:
    for kind in kinds().values():
        ending = ".txt" if kind.typed else kind.pack[0] if kind.pack else ".*"
        yield f"`{kind.stem}{ending}`", f"`{kind.option}`", sentence(kind.help)


def _files(stage: Stage) -> Iterator[tuple[str, str, str]]:
    for path, names in declared().items():
        folder, _, file = path.partition("/")
        if folder == stage.name:
            if path not in FILES:
                raise KeyError(f"{path} has no sentence yet: add one to FILES in scripts/reference_pages/run_folder.py")
            yield f"`{file}`", FILES[path], ", ".join(names)
    for file, text in MORE.get(stage.name, {}).items():
        yield f"`{file}`", text, ", ".join(stage.methods) if stage.name != "bundle" else "flux"
    yield f"`{MANIFEST}`", "The record of the stage.", "all"


def _readings(stage: Stage) -> Iterator[tuple[str, str, str]]:
    for name, method in stage.methods.items():
        yield name, _listed(method.reads) or "as the method that it chooses", _listed(method.takes)


def _listed(references: Any) -> str:
    return ", ".join(f"`{reference}`" for reference in references)
