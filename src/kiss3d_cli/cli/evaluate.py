"""`kiss3d eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiss3d_cli.cli.terminal import handles_errors, note, print_json, shown_path
from kiss3d_cli.core.errors import BadInput


@handles_errors
def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="A run folder or a mesh; the newest run in outputs/ by default.")
    ] = None,
    gt: Annotated[Path | None, typer.Option(metavar="MESH", help="The ground truth.", show_default=False)] = None,
    points: Annotated[int, typer.Option(help="Points sampled on each surface.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare a mesh with its ground truth: Chamfer distance, F-score and more, in the kiss3d protocol."""
    if gt is None:
        raise BadInput("no ground truth was given", place="--gt", hint="kiss3d eval RUN_DIR --gt mesh.obj")
    from kiss3d_cli.geometry.evaluation import evaluate as measure
    from kiss3d_cli.geometry.load import read_mesh

    mesh = _mesh(target)
    found = measure(
        read_mesh(mesh),
        read_mesh(gt),
        points=points,
        seed=seed,
        prediction_place=str(mesh),
        ground_truth_place=str(gt),
    )
    if json_output:
        print_json(found.record())
        return
    note(f"{shown_path(mesh)} against {shown_path(gt)}")
    distances = found.distances
    print(f"Chamfer            {distances.chamfer_l1:.5f}")
    for score in distances.f_scores:
        print(
            f"F-score at {score.threshold:<7g} {score.f_score:.4f}  "
            f"(precision {score.precision:.4f}, recall {score.recall:.4f})"
        )
    print(f"Normal consistency {distances.normal_consistency:.4f}")


def _mesh(target: Path | None) -> Path:
    """The mesh that is meant: a file, a run's result, or the newest run's."""
    from kiss3d_cli.pipeline.launch import mesh_of
    from kiss3d_cli.pipeline.run_folder import RunFolder, find_runs

    if target is not None and target.is_file():
        return target
    if target is None:
        runs = find_runs(Path("outputs"))
        if not runs:
            raise BadInput("there is no run in outputs/", place="RUN_DIR", hint="kiss3d run image.png")
        folder = runs[0]
    elif target.is_dir():
        folder = RunFolder(target)
        folder.record()
    else:
        raise BadInput("no such run folder or mesh", place=str(target), hint="kiss3d eval RUN_DIR --gt mesh.obj")
    mesh = mesh_of(folder)
    if mesh is None:
        raise BadInput(
            "this run has no mesh yet", place=str(folder.path), hint=f"kiss3d resume {shown_path(folder.path)}"
        )
    return mesh
