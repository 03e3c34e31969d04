"""Evaluations of files: one pair, or folders of results against folders of ground truths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiss3d_cli.core.errors import BadInput, Kiss3dError
from kiss3d_cli.core.files import write_durably
from kiss3d_cli.core.hashing import file_sha256
from kiss3d_cli.core.records import write_json
from kiss3d_cli.evaluation.scores import Score, ScoreTable, make_table
from kiss3d_cli.pipeline.pairing import Pair, Pairing, find_results, find_truths, pair

if TYPE_CHECKING:
    from kiss3d_cli.evaluation.compare import Evaluation


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure.

    Attributes:
        protocol: its name.
        alignment: None for the protocol's own.
        points: None for the protocol's own.
        seed: of the samples.
        render: also compare pictures.
    """

    protocol: str = "kiss3d"
    alignment: str | None = None
    points: int | None = None
    seed: int = 0
    render: bool = False


def measure_pair(prediction: Path, ground_truth: Path, options: MeasureOptions) -> Evaluation:
    """Read two meshes and compare them; a ground truth may be a point cloud, which no pictures are made of.

    Raises:
        BadInput, Missing, OutOfMemory: as `evaluate_files`.
    """
    from kiss3d_cli.evaluation.files import evaluate_files

    return evaluate_files(
        prediction,
        ground_truth,
        protocol=options.protocol,
        alignment=options.alignment,
        points=options.points,
        seed=options.seed,
        render=options.render,
    )


def record_of(found: Evaluation, prediction: Path, ground_truth: Path) -> dict[str, Any]:
    """The evaluation's record with both files named and hashed."""
    record = found.record()
    for name, path in (("prediction", prediction), ("ground_truth", ground_truth)):
        record[name] = {"file": str(path), "file_sha256": file_sha256(path), **record[name]}
    return record


def columns_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """A table's columns, from what metrics.json has. Raises KeyError, TypeError or ValueError if it is of no schema."""
    metrics, rendered = record["metrics"], record["rendered"]
    columns: dict[str, float | None] = {name: metrics[name] for name in ("chamfer_l1", "chamfer_l2")}
    columns |= {f"f_score@{score['threshold']:g}": score["f_score"] for score in metrics["f_scores"]}
    columns |= {name: metrics[name] for name in ("normal_consistency", "hausdorff", "hausdorff_95", "volume_iou")}
    if rendered is not None:
        columns |= {name: rendered[name] for name in ("mask_iou", "normal_error", "psnr", "ssim")}
    for name, value in columns.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} is not a number")
    return columns


def measure_folders(
    results: Path,
    truths: Path,
    options: MeasureOptions,
    announce: Callable[[str], None] = lambda _text: None,
) -> ScoreTable:
    """Measure every result that has a ground truth of its name; one that fails does not stop the others.

    Args:
        results: a folder of run folders or meshes.
        truths: a folder of ground truths.
        announce: told before each pair.

    Raises:
        BadInput: nothing could be paired, or an option is wrong.
    """
    from kiss3d_cli.evaluation.protocols import get_alignment, get_protocol

    protocol = get_protocol(options.protocol)
    kind = protocol.alignment if options.alignment is None else get_alignment(options.alignment)
    pairing: Pairing = pair(find_results(results), find_truths(truths))
    if not pairing.pairs:
        listed = "\n".join(f"  - {sentence}" for sentence in pairing.unpaired[:20])
        raise BadInput(
            f"no result has a ground truth of its name\n{listed}",
            place=str(results),
            hint=f"name the results like the meshes in {truths}, or compare one: kiss3d eval RESULT --gt MESH",
        )
    scores = []
    for number, entry in enumerate(pairing.pairs, 1):
        announce(f"{number} of {len(pairing.pairs)}: {entry.result.name}")
        scores.append(_score(entry, options))
    points = protocol.points if options.points is None else options.points
    heading = (
        f"{len(pairing.pairs)} results in the {protocol.name} protocol, version {protocol.version}: "
        f"{points} points, alignment {kind}, seed {options.seed}, lengths in the {protocol.unit}"
    )
    return make_table(heading, scores, pairing.unpaired, options.seed)


def _score(entry: Pair, options: MeasureOptions) -> Score:
    mesh = entry.result.mesh
    assert mesh is not None
    name, prediction, truth = entry.result.name, str(mesh), str(entry.truth)
    try:
        found = measure_pair(mesh, entry.truth, options)
    except Kiss3dError as error:
        return Score(name, prediction, truth, error=str(error))
    record = record_of(found, mesh, entry.truth)
    return Score(name, prediction, truth, columns_of(record), record=record)


def write_metrics(folder: Path, record: dict[str, Any]) -> Path:
    """Write metrics.json as a whole; the folder is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.json"
    write_durably(path, write_json(record))
    return path


def write_table(folder: Path, table: ScoreTable) -> list[Path]:
    """Write scores.csv, scores.json and scores.md."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"scores.csv": table.to_csv(), "scores.json": table.to_json(), "scores.md": table.to_markdown()}
    for name, text in texts.items():
        write_durably(folder / name, text.encode())
    return [folder / name for name in texts]
