"""`kiss3d eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiss3d_cli.cli.runs_there import newest_run, one_run
from kiss3d_cli.cli.terminal import handles_errors, note, print_json, show, shown_path
from kiss3d_cli.core.errors import BadInput
from kiss3d_cli.core.shell import typed
from kiss3d_cli.core.words import counted

if TYPE_CHECKING:
    from kiss3d_cli.evaluation.compare import Evaluation
    from kiss3d_cli.pipeline.measure import MeasureOptions


@handles_errors
def evaluate(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="A run folder, a mesh, or a folder of either; the newest run in outputs/ by default.",
            show_default=False,
        ),
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(metavar="MESH", help="The ground truth, or a folder of them.", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="kiss3d, kiss3dgen, triposr, zeroshape or meshrcnn.")] = "kiss3d",
    align: Annotated[
        str | None,
        typer.Option(help="none, yaw, rigid or similarity; what the protocol says by default.", show_default=False),
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Points on each surface; the protocol's by default.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    render: Annotated[bool, typer.Option("--render", help="Also compare pictures from eight sides.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the metrics and the pictures.", show_default=False),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Draw pictures into --out.")] = True,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare a mesh with its ground truth: Chamfer distance, F-score and more, by a named protocol."""
    if gt is None:
        raise BadInput("no ground truth was given", place="--gt", hint="kiss3d eval RUN_DIR --gt mesh.obj")
    if not gt.exists():
        raise BadInput("there is no such ground truth", place=str(gt), hint="give --gt an existing mesh or folder")
    if out is not None and out.exists() and not out.is_dir():
        raise BadInput("this is a file, not a folder", place="--out", hint="choose another --out")
    if out is not None and pictures and not gt.is_dir():
        from kiss3d_cli.report.evaluation_pictures import check_matplotlib

        check_matplotlib()
    from kiss3d_cli.pipeline.measure import MeasureOptions

    options = MeasureOptions(protocol, align, points, seed, render)
    if gt.is_dir():
        _evaluate_folders(target, gt, options, out, json_output)
    else:
        _evaluate_one(target, gt, options, out, pictures, json_output)


def _evaluate_one(
    target: Path | None, truth: Path, options: MeasureOptions, out: Path | None, pictures: bool, json_output: bool
) -> None:
    from kiss3d_cli.pipeline.measure import measure_pair, record_of, write_metrics

    mesh = _mesh(target, truth)
    found = measure_pair(mesh, truth, options)
    record = record_of(found, mesh, truth)
    if out is not None:
        files = [write_metrics(out, record)]
        if pictures:
            from kiss3d_cli.report.evaluation_pictures import write_pictures

            files += write_pictures(found, out)
        note("wrote " + ", ".join(shown_path(path) for path in files))
    for warning in found.warnings:
        note(f"note: {warning}")
    if json_output:
        print_json(record)
        return
    note(f"{shown_path(mesh)} against {shown_path(truth)}")
    _show(found)


def _evaluate_folders(
    target: Path | None, truths: Path, options: MeasureOptions, out: Path | None, json_output: bool
) -> None:
    from kiss3d_cli.pipeline.measure import measure_folders, write_table

    results = target if target is not None else newest_run("RESULTS_DIR").path.parent
    if not results.exists():
        raise BadInput("no such folder of results", place=str(results), hint="give run folders or meshes in a folder")
    if not results.is_dir():
        given = typed(shown_path(truths))
        hint = f"one mesh as --gt, as in {given}/NAME.obj; or a folder: kiss3d eval RESULTS_DIR --gt {given}"
        raise BadInput("the ground truth is a folder, so the results must be one too", place=str(results), hint=hint)
    table = measure_folders(results, truths, options, note)
    if out is not None:
        note("wrote " + ", ".join(shown_path(path) for path in write_table(out, table)))
    show(table.to_json() if json_output else table.to_markdown(), end="")
    if any(score.error is not None for score in table.scores):
        raise typer.Exit(BadInput.exit_code)


def _show(found: Evaluation) -> None:
    """The numbers, each with what it needs to be compared with another."""
    distances, aligned = found.distances, found.alignment
    deviations = f" ({'; '.join(found.deviations)})" if found.deviations else ""
    show(f"protocol           {found.protocol.name} {found.protocol.version}{deviations}")
    show(f"unit of length     {found.protocol.unit}")
    show(
        f"alignment          {aligned.kind}: turned by {aligned.degrees:.2f} degrees, scaled by {aligned.scale:.5g}"
        if aligned.kind != "none"
        else "alignment          none"
    )
    scan = found.truth.report is None
    whole = f"{found.points:,} on the prediction, the {len(found.truth.sample.points):,} of the ground truth"
    show(f"samples            {whole if scan else f'{found.points:,} on each surface'}, seed {found.seed}")
    show(f"Chamfer L1         {distances.chamfer_l1:.5f}   (mean of the two directions, not squared)")
    show(f"Chamfer L2         {distances.chamfer_l2:.3e} (sum of the two directions, squared)")
    for score in distances.f_scores:
        show(
            f"F-score at {score.threshold:<7g} {score.f_score:.4f}    "
            f"(precision {score.precision:.4f}, recall {score.recall:.4f})"
        )
    if distances.normal_consistency is not None:
        show(f"normal consistency {distances.normal_consistency:.4f}")
    show(f"accuracy           {distances.accuracy:.5f}   (mean distance from the prediction to the ground truth)")
    show(f"completeness       {distances.completeness:.5f}   (mean distance from the ground truth to the prediction)")
    show(f"Hausdorff          {distances.hausdorff:.5f}   (95 %: {distances.hausdorff_95:.5f})")
    volume = found.volume
    show(f"volume IoU         {volume.reason if volume.iou is None else f'{volume.iou:.4f}'}")
    if found.rendered is not None:
        rendered = found.rendered
        show(f"mask IoU           {rendered.mask_iou:.4f}    (8 rendered views)")
        if rendered.normal_error is not None:
            show(f"normal error       {rendered.normal_error:.2f} degrees")
        show(f"PSNR               {rendered.reason if rendered.psnr is None else f'{rendered.psnr:.2f} dB'}")
        if rendered.ssim is not None:
            show(f"SSIM               {rendered.ssim:.4f}")
    for name, mesh in (("prediction", found.prediction), ("ground truth", found.truth)):
        report = mesh.report
        if report is None:
            show(f"{name:<18} point cloud of {counted(len(mesh.vertices), 'point')}")
            continue
        closed = "watertight" if report.watertight else "closed" if report.closed else "open"
        counts = [counted(report.vertices, "vertex", "vertices"), counted(report.faces, "face")]
        show(f"{name:<18} {', '.join(counts)}, {counted(report.components, 'piece')}, {closed}")


def _mesh(target: Path | None, truth: Path) -> Path:
    """The mesh that is meant: a file, a run's result, or the newest run's."""
    from kiss3d_cli.pipeline.launch import mesh_of

    if target is not None and target.is_file():
        return target
    if target is None:
        folder = newest_run("RUN_DIR")
    elif target.is_dir():
        folder = one_run(target, "eval", "--gt", shown_path(truth))
        folder.record()
    else:
        raise BadInput("no such run folder or mesh", place=str(target), hint="kiss3d eval RUN_DIR --gt mesh.obj")
    mesh = mesh_of(folder)
    if mesh is None:
        raise BadInput(
            "this run has no mesh yet", place=str(folder.path), hint=typed("kiss3d", "resume", shown_path(folder.path))
        )
    return mesh
